"""The progress of a run: bars on a terminal, lines elsewhere."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

PHASES = {
    "pre-processing": "pre_processing_job_state",
    "students": "student_jobs_state",
    "post-processing": "post_processing_job_state",
}
_RUNNING = "grading job is running"
_ENDED = ("grading job failed", "grading job was successful")


@dataclass(frozen=True)
class Phase:
    """The progress of a phase: the numbers of its running and of its ended jobs."""

    running: int = 0
    ended: int = 0


class View(Protocol):
    """A display of the progress."""

    def show(self, phases: Mapping[str, Phase]) -> None:
        """Show the progress of all phases, by name."""


def phases(status: dict[str, Any]) -> dict[str, Phase]:
    """Count the jobs in an answer of `grading_run_status`."""
    return {name: _count((status[key] or {}).values()) for name, key in PHASES.items()}


def _count(states: Any) -> Phase:
    listed = list(states)
    return Phase(listed.count(_RUNNING), sum(listed.count(ended) for ended in _ENDED))


@contextlib.contextmanager
def view(console: Console, *, students: int) -> Iterator[View]:
    """Show progress for as long as the context lasts."""
    totals = {name: students if name == "students" else 1 for name in PHASES}
    if not console.is_terminal:
        yield Lines(console, totals)
        return
    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[now]}"), console=console) as progress:
        yield Bars(progress, totals)


class Bars:
    """A bar for each phase."""

    def __init__(self, progress: Progress, totals: Mapping[str, int]) -> None:
        self._progress = progress
        self._totals = totals
        self._tasks: dict[str, TaskID] = {
            name: progress.add_task(name, total=total, start=False, now="") for name, total in totals.items()
        }

    def show(self, phases: Mapping[str, Phase]) -> None:
        for name, phase in phases.items():
            task = self._tasks[name]
            if phase.running or phase.ended:
                self._progress.start_task(task)
            now = f"{phase.running} running" if phase.running else ""
            self._progress.update(task, completed=phase.ended, now=now)


class Lines:
    """A line for each fifth of a phase."""

    def __init__(self, console: Console, totals: Mapping[str, int]) -> None:
        self._console = console
        self._totals = totals
        self._printed = dict.fromkeys(totals, 0)

    def show(self, phases: Mapping[str, Phase]) -> None:
        for name, phase in phases.items():
            total = self._totals[name]
            step = phase.ended * 5 // total
            if step > self._printed[name]:
                self._printed[name] = step
                self._console.print(f"{name}: {phase.ended} of {total}", highlight=False)

"""The progress of a run: bars on a terminal, lines elsewhere."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from broadway.messages.resources.runs import RunDetail


@dataclass(frozen=True)
class Phase:
    """The progress of a phase: the numbers of its jobs, and of those that have ended."""

    jobs: int
    ended: int


class View(Protocol):
    """A display of the progress."""

    def show(self, phases: Mapping[str, Phase]) -> None:
        """Show the progress of the phases that have begun, by name."""


def phases(run: RunDetail) -> dict[str, Phase]:
    """Return the progress of the phases of a run."""
    return {each.phase: Phase(each.jobs, sum(each.outcomes.values())) for each in run.phases}


@contextlib.contextmanager
def view(console: Console, *, shows: bool = True) -> Iterator[View]:
    """Show progress for as long as the context lasts."""
    if not (shows and console.is_terminal):
        yield Lines(console if shows else Console(quiet=True))
        return
    columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield Bars(progress)


class Bars:
    """A bar for each phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, phases: Mapping[str, Phase]) -> None:
        for name, phase in phases.items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=phase.jobs)
            self._progress.update(self._tasks[name], completed=phase.ended)


class Lines:
    """A line for each fifth of a phase."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: dict[str, int] = {}

    def show(self, phases: Mapping[str, Phase]) -> None:
        for name, phase in phases.items():
            step = phase.ended * 5 // phase.jobs
            if step > self._printed.get(name, 0):
                self._printed[name] = step
                self._console.print(f"{name}: {phase.ended} of {phase.jobs}", highlight=False)

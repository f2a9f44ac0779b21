"""What commands show: tables on a terminal, tab-separated lines elsewhere."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from broadway.client import RunDescription, Worker


def run_table(run: RunDescription) -> None:
    """A run's state, and a line for each job."""
    print(f"{run.course}/{run.assignment} {run.id}: {run.state}", file=sys.stderr)
    rows = [
        (
            job.id,
            job.phase,
            job.outcome or job.state,
            _seconds(job.seconds),
            str(job.attempts),
            job.grader or "",
            job.reason,
        )
        for job in run.jobs
    ]
    _table(("job", "phase", "outcome", "seconds", "attempts", "grader", "why"), rows)


def worker_table(workers: Sequence[Worker]) -> None:
    """A line for each grader."""
    rows = [
        (
            worker.hostname,
            "alive" if worker.alive else "gone",
            "busy" if worker.busy else "idle",
            str(worker.jobs_processed),
        )
        for worker in workers
    ]
    _table(("host", "state", "work", "jobs"), rows)


def config_table(settings: Sequence[Sequence[str]]) -> None:
    """A line for each setting: its name, its value and, if that is asked for, where the value is from."""
    _table(("name", "value", "from")[: len(settings[0])], settings)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if not sys.stdout.isatty():
        for row in (head, *rows):
            print("\t".join(row))
        return
    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(markup=False).print(table)

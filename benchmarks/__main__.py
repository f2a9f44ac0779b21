"""`python -m benchmarks`: measure, write the results to files, and print a line for each goal."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import structlog
import typer

from benchmarks import (
    classes,
    control_plane,
    deliveries,
    grade_sheets,
    grades,
    growth,
    hostile,
    large_runs,
    live_logs,
    pages,
    polls,
    regrades,
    scale,
    stages,
    startup,
    streams,
)
from benchmarks.goals import goals, judge
from benchmarks.machine import describe, with_own_mounts
from benchmarks.plan import DEFAULT, FULL, Plan
from benchmarks.report import PLOT, as_json, plot, write_document
from benchmarks.samples import Results
from broadway.grader.sandbox.mounts import detach
from broadway.local.engine import mounts_below

Suite = Callable[[Plan, Results, Path], Awaitable[None]]

SUITES: dict[str, Suite] = {
    "startup": startup.measure,
    "control-plane": control_plane.measure,
    "submission": scale.measure_submission,
    "queues": scale.measure_queues,
    "large-runs": large_runs.measure,
    "history": growth.measure,
    "grades": grades.measure,
    "regrades": regrades.measure,
    "graders": scale.measure_graders,
    "stages": stages.measure,
    "classes": classes.measure,
    "hostile-class": hostile.measure_class,
    "neighbours": hostile.measure_neighbours,
    "streams": streams.measure,
    "many-streams": streams.measure_many,
    "live-logs": live_logs.measure,
    "polls": polls.measure,
    "pages": pages.measure,
    "deliveries": deliveries.measure,
    "grade-sheets": grade_sheets.measure,
}
_REPOSITORY = Path(__file__).parents[1]
LATEST = _REPOSITORY / "benchmarks" / "results" / "latest.json"
DOCUMENT = _REPOSITORY / "docs" / "performance.md"

log = structlog.get_logger(__name__)


def main(
    *,
    only: Annotated[list[str] | None, typer.Option(help="Run only this measurement, and write no files.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Measure larger sizes, for hours.")] = False,
    names: Annotated[bool, typer.Option("--list", help="List all measurements.")] = False,
) -> None:
    """Measure Broadway and its alternatives. Exits 0 if all goals could be measured, met or not."""
    if names:
        print("\n".join(f"{name}\t{_first_line(suite)}" for name, suite in SUITES.items()))
        return
    if unknown := [name for name in only or () if name not in SUITES]:
        raise typer.BadParameter(f"{unknown[0]}: expected one of {', '.join(SUITES)}", param_hint="--only")
    chosen = {name: SUITES[name] for name in only or SUITES}
    plan = FULL if full else DEFAULT
    with_own_mounts()
    begun = datetime.now(UTC)
    results = asyncio.run(_measure(chosen, plan))
    verdicts = judge([goal for goal in goals(plan) if goal.suite in chosen], results)
    about = {"measured": f"{begun:%Y-%m-%d}", "sizes": "full" if full else "default", **describe()}
    if only:
        print(as_json(verdicts, results, about))
    else:
        LATEST.parent.mkdir(exist_ok=True)
        LATEST.write_text(as_json(verdicts, results, about))
        plot(DOCUMENT.parent / PLOT, results)
        write_document(DOCUMENT, verdicts, results, about)
    print("\n".join(map(str, verdicts)))
    raise typer.Exit(any(verdict.measured is None for verdict in verdicts))


async def _measure(suites: dict[str, Suite], plan: Plan) -> Results:
    results = Results()
    for name, suite in suites.items():
        log.info("measuring", suite=name)
        with TemporaryDirectory(prefix="broadway-bench-", ignore_cleanup_errors=True) as directory:
            try:
                await suite(plan, results, Path(directory))
            except Exception as error:
                results.fail(name, f"{type(error).__name__}: {error}")
                log.exception("could not be measured", suite=name)
            for point in mounts_below(Path(directory)):  # left by killed graders
                detach(Path(point))
    return results


def _first_line(suite: Suite) -> str:
    return (suite.__doc__ or "").strip().partition("\n")[0]


if __name__ == "__main__":
    sys.path.insert(0, os.fspath(_REPOSITORY))
    typer.run(main)

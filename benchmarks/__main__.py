"""`python -m benchmarks`: measure, write the results to files, and print a line for each goal."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import structlog
import typer

from benchmarks import (
    alerts,
    classes,
    control_plane,
    deliveries,
    demo_class,
    fleet,
    grade_sheets,
    grades,
    growth,
    hostile,
    large_runs,
    live_logs,
    pages,
    polls,
    regrades,
    retention,
    scale,
    stages,
    startup,
    streams,
)
from benchmarks.goals import goals
from benchmarks.machine import describe, with_own_mounts
from benchmarks.plan import DEFAULT, FULL, Plan
from benchmarks.report import PLOT, as_json, plot, write_document
from benchmarks.samples import Results
from benchmarks.verdicts import judge
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
    "retention": retention.measure,
    "graders": scale.measure_graders,
    "fleets": fleet.measure,
    "one-grader": fleet.measure_grader,
    "stages": stages.measure,
    "classes": classes.measure,
    "demo-class": demo_class.measure,
    "hostile-class": hostile.measure_class,
    "neighbours": hostile.measure_neighbours,
    "streams": streams.measure,
    "many-streams": streams.measure_many,
    "live-logs": live_logs.measure,
    "polls": polls.measure,
    "pages": pages.measure,
    "deliveries": deliveries.measure,
    "grade-sheets": grade_sheets.measure,
    "alerts": alerts.measure,
}
_REPOSITORY = Path(__file__).parents[1]
LATEST = _REPOSITORY / "benchmarks" / "results" / "latest.json"
DOCUMENT = _REPOSITORY / "docs" / "performance.md"
SCALING = _REPOSITORY / "docs" / "scaling.md"
OTHER_DOCUMENTS = {"fleets": SCALING, "one-grader": SCALING}  # of measurements that are not in DOCUMENT

log = structlog.get_logger(__name__)


def main(
    *,
    only: Annotated[list[str] | None, typer.Option(help="Run only this measurement, and write no files.")] = None,
    write: Annotated[
        bool, typer.Option("--write", help="With --only, write the documents that have only these measurements.")
    ] = False,
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
    about = {"measured": f"{begun:%Y-%m-%d}", "sizes": "full" if full else "default", **describe()}
    everything = Results.joined(results.values())
    verdicts = judge([goal for goal in goals(plan) if goal.suite in chosen], everything)
    if only:
        print(as_json(verdicts, everything, about))
    else:
        LATEST.parent.mkdir(exist_ok=True)
        LATEST.write_text(as_json(verdicts, everything, about))
        plot(DOCUMENT.parent / PLOT, results[DOCUMENT])
    if write or not only:
        for document in documents(chosen):
            of_document = [verdict for verdict in verdicts if document_of(verdict.goal.suite) == document]
            image = PLOT if document == DOCUMENT else None
            write_document(document, of_document, results[document], about, image=image)
    print("\n".join(map(str, verdicts)))
    raise typer.Exit(any(verdict.measured is None for verdict in verdicts))


def document_of(suite: str) -> Path:
    """Return the document that has the tables of a measurement."""
    return OTHER_DOCUMENTS.get(suite, DOCUMENT)


def documents(chosen: Collection[str]) -> list[Path]:
    """Return the documents all of whose measurements are among the chosen ones."""
    left_out = {document_of(suite) for suite in SUITES if suite not in chosen}
    return [each for each in dict.fromkeys(map(document_of, SUITES)) if each not in left_out]


async def _measure(suites: dict[str, Suite], plan: Plan) -> dict[Path, Results]:
    found: dict[Path, Results] = {}
    for name, suite in suites.items():
        log.info("measuring", suite=name)
        results = found.setdefault(document_of(name), Results())
        with TemporaryDirectory(prefix="broadway-bench-", ignore_cleanup_errors=True) as directory:
            try:
                await suite(plan, results, Path(directory))
            except Exception as error:
                results.fail(name, f"{type(error).__name__}: {error}")
                log.exception("could not be measured", suite=name)
            for point in mounts_below(Path(directory)):  # left by killed graders
                detach(Path(point))
    return found


def _first_line(suite: Suite) -> str:
    return (suite.__doc__ or "").strip().partition("\n")[0]


if __name__ == "__main__":
    sys.path.insert(0, os.fspath(_REPOSITORY))
    typer.run(main)

"""Lists of runs, latest first, in pages: runs of any age, with equal times, and without any."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

from bson import ObjectId
from harness import stage
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.pages import cursor
from broadway.domain.run import Run, RunState
from broadway.mongo.run_lists import MANY, SPANS
from broadway.mongo.store import Store

AGES = [timedelta(0), *(age for span in SPANS for age in (span / 2, span / 2, span))]


def runs_of(course: str) -> list[Run]:
    """Return runs of two assignments, among them pairs that began at the same time."""
    now = datetime.now(UTC).replace(microsecond=0)
    config = {"student_pipeline": [stage()]}
    return [
        Run(token_hex(12), course, f"mp{number % 2}", RunState.FINISHED, now - age, config, [])
        for number, age in enumerate(AGES)
    ]


async def listed(store: Store, names: list[str], *, size: int) -> list[str]:
    found: list[str] = []
    before: str | None = None
    while True:
        page = await store.runs.of_assignments(names, before=before, limit=size)
        found += [run.id for run in page]
        if len(page) < size:
            return found
        before = cursor(page[-1].started_at, page[-1].id)


async def test_pages_have_each_run_once_latest_first(store: Store, course: str) -> None:
    runs = runs_of(course)
    for run in runs:
        assert await store.runs.insert(run)
    expected = [run.id for run in sorted(runs, key=lambda run: (run.started_at, run.id), reverse=True)]

    for names in ([f"{course}/mp0", f"{course}/mp1"], [f"{course}/mp{number}" for number in range(MANY + 1)]):
        for size in (1, 4, len(runs) + 1):
            assert await listed(store, names, size=size) == expected


async def test_a_run_of_the_future_and_one_without_a_time_are_listed(
    store: Store, course: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    """The clock of another host is ahead; the original stored no time before a run had begun."""
    run = runs_of(course)[0]
    ahead = replace(run, id=token_hex(12), started_at=run.started_at + timedelta(minutes=2))
    for each in (run, ahead):
        assert await store.runs.insert(each)
    early = ObjectId()
    await database["grading_run"].insert_one(
        {"_id": early, "assignment_id": f"{course}/mp0", "state": RunState.READY.value}
    )

    found = await store.runs.of_assignments([f"{course}/mp0"], before=None, limit=10)

    assert [each.id for each in found] == [ahead.id, run.id, str(early)]

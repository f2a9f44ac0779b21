"""Streams of pages: watchers share reads, parts and events."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from graded import REPORTED, World, results
from visitors import Visitor

from broadway.domain.job import JobState, Outcome, Phase
from broadway.domain.progress import JobProgress, RunProgress
from broadway.domain.run import Run, RunState
from broadway.ingest.live import run_changes
from broadway.ingest.reads.progress import SharedProgress
from broadway.ingest.reads.run_tables import RunTables
from broadway.ingest.ui.live import Parts, Sent
from broadway.ingest.ui.run_rows import html_of
from broadway.lifecycle.stores import Stages

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Run("r1", "cs1", "mp1", RunState.STUDENTS, NOW, {"student_pipeline": []}, [])


def test_clients_with_the_same_earlier_parts_share_an_event() -> None:
    first, second = Parts({"status": "<p>1</p>", "j-1": "<tr></tr>"}), Parts({"status": "<p>2</p>", "j-1": "<tr></tr>"})
    early, late = Sent(""), Sent(first.whole)
    whole = early.event(first)
    assert (b"<p>1</p>" in whole, b"<tr>" in whole) == (True, True)
    assert late.event(first) == b""
    changed = early.event(second)
    assert (b"<p>2</p>" in changed, b"<tr>" in changed) == (True, False)
    assert late.event(second) is changed
    assert b"<tr>" in Sent("of another process").event(second)
    assert b"<tr>" in Sent(first.whole).event(second)  # it has the page, and no parts of it are known here
    assert early.event(second) == b""


class Stored:
    """A store that has no results; ``asked`` counts the reads."""

    def __init__(self) -> None:
        self.asked = 0

    async def of_run(self, *_: Any) -> SharedProgress | None:
        raise AssertionError("the progress is known")

    async def with_results(self, ids: list[str]) -> dict[str, Any]:
        self.asked += len(ids)
        return {}

    async def stages(self, *_: Any) -> dict[str, Stages]:
        return {}

    async def current(self, *_: Any) -> Any:
        class Current:
            class settings:  # noqa: N801 - as the field
                points = Decimal(3)

        return Current


def shared(read_at: float, *states: JobState) -> SharedProgress:
    jobs = [
        JobProgress(f"j{number}", Phase.STUDENTS, number, state, NOW, started_at=NOW)
        for number, state in enumerate(states)
    ]
    return SharedProgress(RunProgress(RUN, jobs), read_at=read_at)


async def test_a_table_is_made_of_the_progress_that_the_watchers_share() -> None:
    stored: Any = Stored()
    tables = RunTables(stored, stored, stored, stored)
    queued = shared(1, JobState.QUEUED, JobState.QUEUED)
    tabled = await tables.of_progress(queued)
    assert [row.state for row in tabled.rows] == [JobState.QUEUED, JobState.QUEUED]
    asked = stored.asked
    running = shared(2, JobState.RUNNING, JobState.QUEUED)
    later = await asyncio.gather(*(tables.of_progress(running) for _ in range(20)))
    assert {id(each) for each in later} == {id(later[0])}
    assert [row.state for row in later[0].rows] == [JobState.RUNNING, JobState.QUEUED]
    assert stored.asked == asked + 1
    assert await tables.of_progress(queued) is later[0]  # a later state is known


async def test_a_row_is_made_and_rendered_again_only_if_its_job_has_changed() -> None:
    stored: Any = Stored()
    tables = RunTables(stored, stored, stored, stored)
    jobs = shared(1, *[JobState.QUEUED] * 3).progress.jobs
    first = await tables.of_progress(SharedProgress(RunProgress(RUN, jobs), read_at=1))
    html = [html_of(row) for row in first.rows]
    ended = replace(jobs[1], state=JobState.FINISHED, outcome=Outcome.CANCELLED)
    second = await tables.of_progress(SharedProgress(RunProgress(RUN, [jobs[0], ended, jobs[2]]), read_at=2))
    rendered = html_of.cache_info().misses

    again = [html_of(row) for row in second.rows]

    assert html_of.cache_info().misses == rendered + 1
    assert [new is old for new, old in zip(again, html, strict=True)] == [True, False, True]
    assert [new is old for new, old in zip(second.rows, first.rows, strict=True)] == [True, False, True]
    assert ("queued" in html[1], "cancelled" in again[1]) == (True, True)


async def test_a_page_of_a_run_watches_the_changes_that_the_api_watches(
    world: World, staff: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_changes, "MAX_WATCHERS", 0)
    refused = await staff.get(f"/ui/c/{world.course}/r/{world.run}/live")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert (await staff.get(f"/ui/c/{world.course}/r/{world.run}")).status_code == 200


async def test_the_page_of_a_course_goes_on(world: World, staff: Visitor) -> None:
    address = f"/ui/c/{world.course}"
    page = await staff.text(address)
    assert f'data-live="{address}/live"' in page
    assert "data-live" not in await staff.text(f"{address}?after=nothing")  # earlier runs do not change
    async with staff.http.stream("GET", f"{address}/live") as stream:
        lines = stream.aiter_lines()
        await until_line(lines, "0 of 2 finished")
        await world.finish("ada", results(REPORTED))
        await until_line(lines, "1 of 2 finished")


async def until_line(lines: AsyncIterator[str], words: str) -> None:
    async for line in lines:
        if words in line:
            return
    raise AssertionError(words)

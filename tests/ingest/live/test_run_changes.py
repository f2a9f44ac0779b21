"""Watchers of a run get each change once, with the jobs that changed since the state that they know."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from harness import PATIENCE

from broadway.domain.job import JobState, Outcome, Phase
from broadway.domain.progress import JobProgress, RunProgress
from broadway.domain.run import Run, RunState
from broadway.ingest.live import run_changes
from broadway.ingest.live.run_changes import RunChange, RunChanges, RunWatcher, TooManyWatchersError
from broadway.ingest.reads.progress import SharedProgress

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Run("r1", "cs1", "mp1", RunState.STUDENTS, NOW, {"student_pipeline": []}, [])


class Progress:
    """Three jobs of a run, whose states tests change."""

    def __init__(self) -> None:
        self.run = RUN
        self.jobs = [JobProgress(f"j{number}", Phase.STUDENTS, number, JobState.QUEUED, NOW) for number in range(3)]
        self.reads = 0

    async def of_run(self, course: str, run_id: str) -> SharedProgress | None:
        assert (course, run_id) == ("cs1", "r1")
        self.reads += 1
        return SharedProgress(RunProgress(self.run, list(self.jobs)))

    def change(self, number: int, **changes: Any) -> None:
        self.jobs[number] = replace(self.jobs[number], **changes)

    def finish(self) -> None:
        self.run = replace(RUN, state=RunState.FINISHED)
        for number in range(3):
            self.change(number, state=JobState.FINISHED, outcome=Outcome.SUCCEEDED, success=True)


async def following(watcher: RunWatcher) -> RunChange:
    async with asyncio.timeout(PATIENCE):
        change = await watcher.next()
    assert change is not None
    return change


async def test_a_watcher_gets_the_state_then_each_change_and_the_end() -> None:
    progress = Progress()
    changes = RunChanges(progress, interval=0.001)
    async with changes.watch("cs1", "r1", "") as watcher:
        assert (await following(watcher)).changed is None
        progress.change(1, state=JobState.RUNNING, started_at=NOW)
        assert (await following(watcher)).changed == ("j1",)
        progress.finish()
        last = await following(watcher)
        assert (last.changed, last.is_over) == (("j0", "j1", "j2"), True)
        assert await watcher.next() is None

    assert changes.watched == 0


async def test_a_watcher_that_comes_back_gets_what_changed_meanwhile() -> None:
    progress = Progress()
    changes = RunChanges(progress, interval=0.001)
    async with changes.watch("cs1", "r1", "") as staying:
        async with changes.watch("cs1", "r1", "") as leaving:
            known = (await following(leaving)).fingerprint
        await following(staying)
        for number in (0, 2):
            progress.change(number, state=JobState.RUNNING)
            await following(staying)
        async with changes.watch("cs1", "r1", known) as back, changes.watch("cs1", "r1", "unknown") as lost:
            assert (await following(back)).changed == ("j0", "j2")
            assert (await following(lost)).changed is None


async def test_a_known_state_is_no_change_in_any_process() -> None:
    progress = Progress()
    async with RunChanges(progress, interval=0.001).watch("cs1", "r1", "") as watcher:
        known = (await following(watcher)).fingerprint
    async with RunChanges(progress, interval=0.001).watch("cs1", "r1", known) as watcher:
        progress.finish()
        assert (await following(watcher)).is_over
        known = watcher.known
    async with RunChanges(progress, interval=0.001).watch("cs1", "r1", known) as watcher, asyncio.timeout(PATIENCE):
        assert await watcher.next() is None


async def test_all_watchers_share_the_reads_and_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress()
    changes = RunChanges(progress, interval=60)
    monkeypatch.setattr(run_changes, "MAX_WATCHERS", 2)
    async with changes.watch("cs1", "r1", "") as one, changes.watch("cs1", "r1", "") as other:
        await asyncio.gather(following(one), following(other))
        assert progress.reads == 1
        with pytest.raises(TooManyWatchersError):
            await changes.watch("cs1", "r1", "").__aenter__()
        changes.close()
        assert [await one.next(), await other.next()] == [None, None]

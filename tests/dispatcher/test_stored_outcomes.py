"""Outcomes whose process died before it updated their jobs: sweeps end these jobs, and start none of them again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

import pytest
from crashing import Crash
from earlier_jobs import dispatched
from harness import stage

from broadway.dispatcher.board import Board
from broadway.dispatcher.patience import Patience
from broadway.dispatcher.reconcile import Reconciler
from broadway.domain.job import Attempt, Execution, Job, JobState, Outcome, Phase, RetryPolicy
from broadway.domain.moves import Move
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.messages.events import Event, JobSettled
from broadway.messages.topology import Exchange, Queue
from broadway.mongo.store import Store
from broadway.ports import QueueState
from broadway.runtime.crashpoints import CrashPointError, Point

POLICY = RetryPolicy()


@dataclass
class Surroundings:
    """All that a sweep needs besides the jobs: no run waits, all queues are empty, and the events are kept.

    ``again`` are the jobs that were handed over again.
    """

    events: list[Event] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    async def publish(self, _exchange: Exchange, _key: str, event: Event) -> None:
        self.events.append(event)

    async def ping(self) -> None: ...

    async def look_again(self) -> None: ...

    async def queue_state(self, _: Queue) -> QueueState:
        return QueueState(waiting=0, consumers=1)

    async def depth(self, _: Queue) -> int:
        return 0

    async def unpublished(self, _: datetime, *, limit: int) -> list[Any]:  # noqa: ARG002
        return []

    async def mark_silent_dead(self, _: datetime) -> list[str]:
        return []

    async def hand_over(self, job_ids: Sequence[str], _: str) -> None:
        self.again += job_ids

    def of(self, job_id: str) -> list[Event]:
        return [event for event in self.events if event.context.get("job") == job_id]


@pytest.fixture
async def job_ids(store: Store, course: str) -> list[str]:
    now = datetime.now(UTC)
    config, roster = {"student_pipeline": [stage()]}, [{"STUDENT_ID": f"s{number}"} for number in range(2)]
    run = Run(token_hex(12), course, "mp1", RunState.STUDENTS, now, config, roster)
    planned = plan_jobs(run, Phase.STUDENTS, now)
    await store.jobs.insert(planned)
    return [plan.job.id for plan in planned]


def started(job: Job) -> Job:
    before = datetime.now(UTC) - timedelta(minutes=1)
    return job.start(Attempt("e1", "g1", before), lease=timedelta(seconds=1), policy=POLICY, now=before)


def lost_on_its_way(job: Job) -> Job:
    return dispatched(job, datetime.now(UTC) - timedelta(minutes=1))


def finished(job: Job) -> Job:
    now = datetime.now(UTC)
    return job.finish(Execution("e1", "g1", now, now, Outcome.FAILED), policy=POLICY, now=now)


async def sweep(store: Store) -> Surroundings:
    around = Surroundings()
    everything: Any = around
    hand_over: Any = SimpleNamespace(publish=around.hand_over)
    reconciler = Reconciler(
        board=Board(),
        jobs=store.jobs,
        runs=everything,
        graders=everything,
        broker=everything,
        policy=POLICY,
        lease=timedelta(0),
        hand_over=hand_over,
        lost_jobs=everything,
        patience=Patience(dispatch=timedelta(seconds=1)),
    )
    await reconciler.sweep()
    return around


@pytest.mark.parametrize("before", [started, lost_on_its_way], ids=["running", "start unreported"])
async def test_a_job_whose_outcome_is_stored_ends(store: Store, job_ids: list[str], crash: Crash, before: Move) -> None:
    first, second = job_ids
    await store.jobs.move(dict.fromkeys(job_ids, before))
    crash(Point.OUTCOME_INSERTED)
    with pytest.raises(CrashPointError):
        await store.jobs.move({first: finished})

    around = await sweep(store)
    ended, again = [await store.jobs.get(job_id) for job_id in job_ids]
    assert ended
    assert again
    assert (ended.state, ended.outcome, len(ended.attempts)) == (JobState.FINISHED, Outcome.FAILED, 1)
    assert [type(event) for event in around.of(first)] == [JobSettled]
    assert again.state in (JobState.QUEUED, JobState.DISPATCHED)
    assert (second in around.again) != bool(around.of(second))
    assert first not in around.again
    assert (await sweep(store)).of(first) == []

"""The messages in which a grader reports outcomes."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from harness import until

from broadway.domain.job import Outcome
from broadway.grader.worker.reports import LARGE, Reports
from broadway.messages.batches import parts_of
from broadway.messages.events import Event, JobFinished
from broadway.messages.ticket import proof_of
from broadway.messages.topology import Exchange
from broadway.ports import PublishError
from broadway.runtime.cancellation import end

KEY = bytes(32)


@dataclass
class SlowBroker:
    """A broker that takes an event once it is open, and refuses the first ``refusals`` events."""

    refusals: int = 0
    events: list[Event] = field(default_factory=list)
    tried: list[Event] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, _exchange: Exchange, _key: str, event: Event) -> None:
        self.tried.append(event)
        await self.opened.wait()
        if self.refusals:
            self.refusals -= 1
            raise PublishError("of this test", unknown=False)
        self.events.append(event)


def outcome(number: int, **changes: Any) -> JobFinished:
    now = datetime.now(UTC)
    fields = {"course": f"cs{number % 3}", "run_id": "r1", "job_id": f"j{number}", "generation": 1, **changes}
    about = {"execution_id": f"e{number}", "grader_id": "g1", "outcome": Outcome.SUCCEEDED}
    return JobFinished.model_validate({**fields, **about, "attempt": 1, "started_at": now, "finished_at": now})


async def reported(broker: SlowBroker, *outcomes: JobFinished, **options: Any) -> list[int]:
    """Report outcomes together, and return the number of outcomes in each message."""
    async with contextlib.aclosing(Reports(broker, **options)) as reports, asyncio.TaskGroup() as submitters:
        for each in outcomes:
            submitters.create_task(reports.finished(each))
        await until(lambda: broker.tried)
        broker.opened.set()
    return [len(parts_of(event)) for event in broker.events]


async def test_outcomes_of_a_moment_share_messages_of_at_most_fifty() -> None:
    broker = SlowBroker()

    assert await reported(broker, *map(outcome, range(120))) == [50, 50, 20]

    reports = [part for event in broker.events for part in parts_of(event)]
    assert [part.job_id for part in reports if isinstance(part, JobFinished)] == [f"j{n}" for n in range(120)]


async def test_an_outcome_alone_is_sent_in_its_single_form() -> None:
    broker, only = SlowBroker(), outcome(1)
    await reported(broker, only)
    assert broker.events == [only]


async def test_a_control_plane_of_an_earlier_version_gets_single_outcomes() -> None:
    assert await reported(SlowBroker(), *map(outcome, range(3)), batches=False) == [1, 1, 1]


async def test_a_large_outcome_is_sent_alone_and_keeps_no_other_waiting() -> None:
    broker = SlowBroker()

    await reported(broker, outcome(1), outcome(2, stdout="x" * (LARGE + 1)), outcome(3))

    assert sorted(len(parts_of(event)) for event in broker.tried) == [1, 2]
    (single,) = (event for event in broker.tried if isinstance(event, JobFinished))
    assert single.job_id == "j2"


async def test_outcomes_together_stay_within_the_size_of_a_message() -> None:
    sizes = await reported(SlowBroker(), *(outcome(n, stdout="x" * (LARGE - 1)) for n in range(4)))
    assert sizes == [1, 1, 1, 1], "one character may be six bytes"


async def test_each_outcome_of_a_message_has_its_own_proof() -> None:
    broker, sent = SlowBroker(), [outcome(n) for n in range(2)]

    await reported(broker, *sent, proof_key=KEY)

    (message,) = broker.events
    assert [part.proof for part in parts_of(message) if isinstance(part, JobFinished)] == [
        proof_of(each, KEY) for each in sent
    ]


async def test_outcomes_wait_for_a_broker_that_is_away() -> None:
    assert await reported(SlowBroker(refusals=2), *map(outcome, range(3))) == [3]


async def test_a_submitter_that_is_cancelled_stops_no_other_one() -> None:
    broker = SlowBroker()
    async with contextlib.aclosing(Reports(broker)) as reports:
        first, second = (asyncio.create_task(reports.finished(outcome(n))) for n in range(2))
        await until(lambda: broker.tried)

        await end(first)
        broker.opened.set()
        await second

    assert [len(parts_of(event)) for event in broker.events] == [2]


async def test_submitters_of_closed_reports_are_cancelled() -> None:
    broker = SlowBroker()
    async with contextlib.aclosing(Reports(broker)) as reports:
        waiting = asyncio.create_task(reports.finished(outcome(1)))
        await until(lambda: broker.tried)

    with pytest.raises(asyncio.CancelledError):
        await waiting

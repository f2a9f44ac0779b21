"""Orders of operators end a grader's own pause, if they let it take jobs."""

from secrets import token_hex
from typing import Any

import pytest

from broadway.domain.grader import GraderMode
from broadway.domain.job import FaultPhase, Outcome
from broadway.grader.grading.grade import Graded
from broadway.grader.ports import ContainerError
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.self_check import SelfCheck
from broadway.messages.events import GraderOrder
from broadway.runtime.health import Health

BROKEN = Graded(Outcome.INFRASTRUCTURE_ERROR, "broken", [], "", fault_phase=FaultPhase.CREATE, retryable=True)
LONG = 3600.0  # seconds


async def fail() -> None:
    raise ContainerError("the engine broke", phase=FaultPhase.CREATE, retryable=True)


async def paused(*, slots: int | None = None) -> Availability:
    """Return the availability of a grader that has paused itself."""
    check = SelfCheck(Health({}), fail, limit=1, pause=LONG)
    await check.note(token_hex(12), BROKEN)
    found = Availability(check, 2, GraderOrder(grader_id="g1", revision=1, slots=slots))
    assert found.reason.startswith("1 jobs in a row")
    return found


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, ""),
        ({"slots": 4}, "1 jobs in a row met infrastructure errors, the last one: create: the engine broke"),
        ({"mode": GraderMode.PAUSED}, "paused by an operator"),
        ({"mode": GraderMode.DRAINING}, "drained by an operator"),
    ],
    ids=["resume", "slots", "pause", "drain"],
)
async def test_an_order_to_resume_ends_the_graders_own_pause(more: dict[str, Any], reason: str) -> None:
    subject = await paused()
    subject.obey(GraderOrder(grader_id="g1", revision=2, **more))
    assert subject.reason == reason


async def test_an_earlier_order_ends_no_pause() -> None:
    subject = await paused()
    subject.obey(GraderOrder(grader_id="g1", revision=1))
    assert subject.reason != ""


async def test_a_resumed_grader_that_fails_again_pauses_again() -> None:
    subject = await paused()
    subject.obey(GraderOrder(grader_id="g1", revision=2))
    await subject.self_check.note(token_hex(12), BROKEN)
    assert subject.reason != ""


async def test_an_order_to_resume_after_a_pause_ends_both() -> None:
    subject = await paused(slots=3)
    subject.obey(GraderOrder(grader_id="g1", revision=2, mode=GraderMode.PAUSED, slots=3))
    subject.obey(GraderOrder(grader_id="g1", revision=3, slots=5))
    assert subject.reason == ""

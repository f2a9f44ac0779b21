"""A report on an execution has the ticket of its job in its generation, and the proof of its grader."""

from datetime import UTC, datetime

import pytest

from broadway.domain.job import JobClass, Outcome, Phase
from broadway.lifecycle.vouching import Vouching
from broadway.messages.events import (
    Event,
    ExecutionEvent,
    JobDispatched,
    JobFinished,
    JobQueued,
    JobReleased,
    JobStarted,
)
from broadway.messages.ticket import Tickets, deployment_id, proof_of

TICKETS, OTHERS = Tickets(b"this deployment's"), Tickets(b"another one's")
JOB = {"course": "cs1", "run_id": "r1", "job_id": "j1", "generation": 1}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Graders:
    """Graders that have keys for proofs, by id."""

    def __init__(self, *able: str) -> None:
        self.able = able

    async def must_prove(self, grader_id: str, _: datetime) -> bool:
        return grader_id in self.able


def started(ticket: str, **more: object) -> JobStarted:
    about = {**JOB, "execution_id": "e1", "grader_id": "g1", **more}
    return JobStarted(**about, started_at=NOW, ticket=ticket)  # type: ignore[arg-type]


def proven(event: ExecutionEvent, *, by: str = "g1", tickets: Tickets = TICKETS) -> ExecutionEvent:
    return event.model_copy(update={"proof": proof_of(event, tickets.proof_key(by))})


async def is_vouched(event: Event, *able: str) -> bool:
    return await Vouching(TICKETS, Graders(*able))(event)


async def test_a_report_with_the_jobs_ticket_is_valid() -> None:
    handed = JobDispatched(
        **JOB, assignment="mp1", phase=Phase.STUDENTS, attempt=1, stages=[], ticket=TICKETS.of("j1", 1)
    )
    about = {**handed.ids, "execution_id": "e1", "grader_id": "g1"}

    for event in (JobStarted(**about, started_at=NOW), JobReleased(**about, released_at=NOW)):
        assert await is_vouched(event), "a grader of an earlier version has no key"
        assert not await is_vouched(event, "g1"), "a grader that has a key proves its reports"
        assert await is_vouched(proven(event), "g1")


@pytest.mark.parametrize(
    "told",
    [
        started(""),
        started(TICKETS.of("j2", 1)),
        started(TICKETS.of("j1", 2)),
        started(OTHERS.of("j1", 1)),
        started(TICKETS.of("j1", 1), job_id="j2"),
        started(TICKETS.of("j1", 1), generation=2),
        started("\N{GREEK SMALL LETTER ALPHA}"),
    ],
)
async def test_no_other_ticket_is_valid(told: JobStarted) -> None:
    assert not await is_vouched(told)
    assert not await is_vouched(proven(told))


VALID = proven(started(TICKETS.of("j1", 1)))


@pytest.mark.parametrize(
    "told",
    [
        VALID.model_copy(update={"execution_id": "e2"}),
        VALID.model_copy(update={"grader_id": "g2"}),
        VALID.model_copy(update={"proof": "\N{GREEK SMALL LETTER ALPHA}"}),
        proven(started(TICKETS.of("j1", 1)), by="g2"),
        proven(started(TICKETS.of("j1", 1)), tickets=OTHERS),
        JobReleased(**VALID.model_dump(), released_at=NOW),
        JobFinished(**VALID.model_dump(), finished_at=NOW, outcome=Outcome.SUCCEEDED),
    ],
)
async def test_a_proof_fits_one_kind_of_report_on_one_execution_by_one_grader(told: ExecutionEvent) -> None:
    assert await is_vouched(VALID)
    assert not await is_vouched(told)


async def test_an_event_without_an_execution_needs_no_ticket() -> None:
    assert await is_vouched(JobQueued(**JOB, job_class=JobClass.BULK))


def test_the_key_is_not_shown() -> None:
    assert "deployment" not in repr(TICKETS)


def test_a_deployments_id_does_not_show_its_secret() -> None:
    assert deployment_id(b"secret") == deployment_id(b"secret") != deployment_id(b"another")
    assert b"secret".hex() not in deployment_id(b"secret")

"""Tickets are returned with reports on an execution, and fit one job in one generation."""

from datetime import UTC, datetime

import pytest

from broadway.domain.job import JobClass, Phase
from broadway.messages.events import JobDispatched, JobQueued, JobReleased, JobStarted
from broadway.messages.ticket import Tickets

TICKETS, OTHERS = Tickets(b"this deployment's"), Tickets(b"another one's")
JOB = {"course": "cs1", "run_id": "r1", "job_id": "j1", "generation": 1}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def started(ticket: str, **more: object) -> JobStarted:
    about = {**JOB, "execution_id": "e1", "grader_id": "g1", **more}
    return JobStarted(**about, started_at=NOW, ticket=ticket)  # type: ignore[arg-type]


def test_a_report_with_the_jobs_ticket_is_valid() -> None:
    handed = JobDispatched(
        **JOB, assignment="mp1", phase=Phase.STUDENTS, attempt=1, stages=[], ticket=TICKETS.of("j1", 1)
    )
    about = {**handed.ids, "execution_id": "e1", "grader_id": "g1"}

    assert TICKETS.vouch(JobStarted(**about, started_at=NOW))
    assert TICKETS.vouch(JobReleased(**about, released_at=NOW))


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
def test_no_other_ticket_is_valid(told: JobStarted) -> None:
    assert not TICKETS.vouch(told)


def test_an_event_without_an_execution_needs_no_ticket() -> None:
    assert TICKETS.vouch(JobQueued(**JOB, job_class=JobClass.BULK))


def test_the_key_is_not_shown() -> None:
    assert "deployment" not in repr(TICKETS)

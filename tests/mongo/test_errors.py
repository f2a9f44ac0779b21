"""Errors of the store: a refusal is not an outage, and costs as little of an outcome as possible."""

from datetime import UTC, datetime

import pytest
from bson.errors import InvalidBSON, InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from broadway.domain.job import Outcome
from broadway.lifecycle.recording import record_what_can_be
from broadway.messages.events import Event, JobFinished, JobStarted
from broadway.mongo.errors import translated
from broadway.ports import Reject, StoreError, refusal

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDS = {"course": "c", "assignment": "a", "run_id": "r", "job_id": "j", "generation": 1}
EXECUTION = {**IDS, "execution_id": "e", "grader_id": "g", "started_at": NOW}


def bulk(*codes: int) -> BulkWriteError:
    errors = [{"index": index, "code": code, "errmsg": f"code {code}"} for index, code in enumerate(codes)]
    return BulkWriteError({"writeErrors": errors, "writeConcernErrors": []})


async def as_translated(error: Exception) -> Exception:
    """Return the error that a call raises when the driver raises this one."""

    async def fail() -> None:
        raise error

    try:
        await translated(fail())
    except Exception as raised:  # noqa: BLE001 - any error may be raised
        return raised
    pytest.fail("the error was lost")


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("gone"),
        NotPrimaryError("stepped down"),
        ServerSelectionTimeoutError("nobody"),
        WTimeoutError("slow"),
        WriteConcernError("too few"),
        OperationFailure("no disk left", 14031),
        OperationFailure("who are you", 13),
        bulk(),
        bulk(10107, 91),
        ValueError("a bug"),
    ],
)
async def test_an_outage_is_not_a_refusal(error: Exception) -> None:
    assert refusal(await as_translated(error)) is None


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DocumentTooLarge("too large"), "too large"),
        (InvalidDocument("no key"), "no key"),
        (RecursionError("too deep"), "too deep"),
        (OperationFailure("nested too deep", 15), "nested too deep"),
        (bulk(10334), "code 10334"),
        (bulk(10107, 10334), "code 10334"),
        (OperationFailure("x" * 10_000, 2), "x" * 300),
    ],
)
async def test_a_refusal_has_a_short_reason(error: Exception, why: str) -> None:
    assert refusal(await as_translated(error)) == why


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("gone"),
        ServerSelectionTimeoutError("no server"),
        WTimeoutError("slow"),
        OperationFailure("no disk left", 14031),
        DuplicateKeyError("it is there"),
        InvalidOperation("after close"),
        bulk(10107),
    ],
)
async def test_errors_of_the_driver_become_store_errors_with_the_same_text(error: Exception) -> None:
    raised = await as_translated(error)
    assert isinstance(raised, StoreError)
    assert str(raised) == str(error)
    assert raised.__cause__ is error


@pytest.mark.parametrize("error", [InvalidBSON("an unreadable document"), ValueError("a bug"), TimeoutError()])
async def test_other_errors_stay_unchanged(error: Exception) -> None:
    assert await as_translated(error) is error


class Book:
    """Records events, except those that contain a refused word."""

    def __init__(self, *refused: str, error: Exception | None = None) -> None:
        self.refused = refused
        self.error = error or DocumentTooLarge("too large")
        self.tried: list[Event] = []

    async def record(self, event: Event) -> str:
        self.tried.append(event)
        if any(word in repr(event) for word in self.refused):
            raise await as_translated(self.error)
        return "recorded"


@pytest.fixture
def finished() -> JobFinished:
    return JobFinished(
        **EXECUTION, finished_at=NOW, outcome=Outcome.SUCCEEDED, results=[{"bulky": 1}], stdout="loud", stderr="loud"
    )


@pytest.mark.parametrize(
    ("refused", "stdout", "reason"),
    [
        ((), "loud", ""),
        (("bulky",), "loud", "the results cannot be stored: too large"),
        (("loud",), "", "the results cannot be stored: too large"),
    ],
)
async def test_only_the_refused_parts_of_an_event_are_left_out(
    finished: JobFinished, refused: tuple[str, ...], stdout: str, reason: str
) -> None:
    book = Book(*refused)
    assert await record_what_can_be(finished, book.record, refusal=refusal) == "recorded"
    recorded = book.tried[-1]
    assert isinstance(recorded, JobFinished)
    assert (recorded.outcome, recorded.stdout, recorded.reason) == (Outcome.SUCCEEDED, stdout, reason)
    assert recorded.results == ([{"result": reason}] if reason else finished.results)


async def test_an_event_that_is_refused_in_every_form_becomes_a_dead_letter(finished: JobFinished) -> None:
    for event, tries in ((finished, 3), (JobStarted(**EXECUTION), 1)):
        book = Book("job_id")
        with pytest.raises(Reject, match="the store refuses it: too large"):
            await record_what_can_be(event, book.record, refusal=refusal)
        assert len(book.tried) == tries


async def test_an_outage_changes_no_event(finished: JobFinished) -> None:
    book = Book("job_id", error=AutoReconnect("gone"))
    with pytest.raises(StoreError):
        await record_what_can_be(finished, book.record, refusal=refusal)
    assert book.tried == [finished]

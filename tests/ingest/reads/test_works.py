"""The works of an assignment: of uploads and pushes, of earlier versions, and those that a process has read before."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from secrets import token_hex
from typing import Any

import pytest
from bson import ObjectId
from classes import Class, HandIn
from pymongo.asynchronous.database import AsyncDatabase
from stored import course, database, shared_place, store

from broadway.domain.grade import GradeStatus
from broadway.domain.grade_book import BookEntry
from broadway.domain.job import Outcome
from broadway.domain.originals import Reported, StageReport
from broadway.domain.report import Report, Source
from broadway.domain.webhook import Delivery, DeliveryState, delivery_key
from broadway.ingest.grade_composition import grade_reads
from broadway.ingest.reads.recent_works import RecentWorks
from broadway.mongo.store import Store

__all__ = ["course", "database", "shared_place", "store"]

AT = datetime(2026, 11, 20, tzinfo=UTC)

Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def group(store: Store, course: str) -> Class:
    made = Class(store, course)
    await made.prepare(["ada", "bob"], {"points": 10})
    return made


async def entry(group: Class, student: str = "ada") -> BookEntry:
    """Return a student's entry of the draft, which is the same alone and in the class."""
    alone = await group.reads.draft_of(group.course, group.assignment, student)
    (found,) = [each for each in (await group.reads.draft(group.course, "mp1")).entries if each.student == student]
    assert alone == found
    return found


async def deliver(group: Class, state: DeliveryState, *, run: str | None = None, number: int = 1) -> None:
    """Store the delivery of an upload of ada."""
    submission, hook = group.submission("ada", number), f"@uploads/{group.assignment}"
    key = delivery_key(group.course, hook, submission)
    made = Delivery(key, group.course, hook, group.assignment, submission, AT, state, student="ada", run_id=run)
    assert await group.store.deliveries.insert(made)


async def test_pushes_are_works_by_the_time_of_their_receipt(group: Class) -> None:
    await group.hand_in(HandIn("ada", AT, score="3"))
    await group.hand_in(HandIn("ada", AT + timedelta(hours=1), score="8", is_push=True))
    found = await entry(group)
    assert (found.grade.points, found.grade.submission, found.grade.number) == (Decimal(8), found.job, 2)


async def test_a_student_who_is_in_no_roster_has_a_grade_and_others_have_none(group: Class) -> None:
    await group.hand_in(HandIn("guest", AT, score="4"))
    assert (await entry(group, "guest")).grade.points == 4
    assert (await entry(group, "bob")).grade.status is GradeStatus.NOT_SUBMITTED
    assert await group.reads.draft_of(group.course, "mp1", "stranger") is None


@pytest.mark.parametrize("has_marks", [True, False], ids=["marks", "a report alone"])
async def test_the_result_of_an_earlier_recorder_is_found_by_its_delivery(
    group: Class, database: Database, *, has_marks: bool
) -> None:
    """As after a rolling upgrade, in which the API was upgraded before the results service."""
    run = token_hex(12)
    await group.hand_in(HandIn("ada", AT, score="7"), run=run)
    await deliver(group, DeliveryState.ACCEPTED, run=run)
    job = (await entry(group)).job
    assert job is not None
    await database["work_result"].delete_many({"course": group.course})
    await database["submission"].update_many({"course": group.course}, {"$unset": {"graded": ""}})
    await database["grading_job"].update_one({"_id": ObjectId(job)}, {"$unset": {"handed_in": ""}})
    if not has_marks:
        await database["job_outcome"].update_one({"_id": f"{job}:1"}, {"$unset": {"attempts.0.marks": ""}})
        report = Report(source=Source.GRADESCOPE, score=Decimal(6), max=Decimal(10))
        await group.store.reports.put([StageReport(job, f"e-{job}", 0, Reported(report=report))])

    found = await entry(group)

    assert (found.grade.points, found.job, found.execution) == (7 if has_marks else 6, job, f"e-{job}")


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (DeliveryState.SUPERSEDED, "a later submission replaced it before it was graded"),
        (DeliveryState.LIMITED, "its grading was cancelled; it uses no attempt"),
        (DeliveryState.RECEIVED, "it is not graded yet"),
    ],
    ids=["superseded", "limited", "undecided"],
)
async def test_an_upload_without_a_job_is_settled_by_its_delivery(
    group: Class, state: DeliveryState, line: str
) -> None:
    assert await group.store.submissions.add(group.submitted(HandIn("ada", AT)))
    await deliver(group, state)
    found = await entry(group)
    assert any(line in each.text for each in found.grade.lines), found.grade.lines
    assert bool(found.grade.unsettled) is (state is DeliveryState.RECEIVED)


async def test_recent_works_have_results_that_come_later(store: Store, group: Class) -> None:
    recent = grade_reads(store, RecentWorks(store.grades.works))

    async def points() -> list[str]:
        return [str(each.grade.points) for each in (await recent.draft(group.course, "mp1")).entries]

    assert await points() == ["None", "None"]
    await group.hand_in(HandIn("ada", AT, score="3"))
    assert await points() == ["3", "None"]
    (job,) = await group.grade([HandIn("ada", AT, score="5")])
    await group.hand_in(HandIn("bob", AT, Outcome.INFRASTRUCTURE_ERROR))
    assert await points() == ["5", "None"]
    draft = await recent.draft(group.course, "mp1")
    assert draft.entries == (await group.reads.draft(group.course, "mp1")).entries
    assert draft.entries[0].job == job
    assert (await recent.draft(group.course, "mp2")).entries == []


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
async def test_the_receipt_decides_between_results_that_name_different_students(
    group: Class, *, is_first: bool
) -> None:
    """As when staff start a run whose environment gives an upload another student, before or after its own result."""
    own = HandIn("ada", AT, score="4")
    assert await group.store.submissions.add(group.submitted(own))
    forged = replace(own, student="bob", score="9")
    for each in [own, forged] if is_first else [forged, own]:
        await group.grade([each], of="ada")
    ada, bob = (each.grade for each in (await group.reads.draft(group.course, "mp1")).entries)
    assert (ada.submission, ada.number) == (group.submission("ada"), 1)
    assert bob.status is GradeStatus.NOT_SUBMITTED


async def test_recent_results_are_read_again_with_the_receipts(
    store: Store, group: Class, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that was stored long after its time is not missing after its receipt is left out."""
    recent = RecentWorks(store.grades.works)
    reads = grade_reads(store, recent)
    await group.hand_in(HandIn("bob", AT))
    await reads.draft(group.course, "mp1")
    await group.hand_in(HandIn("ada", AT, score="3"))
    early = AT - timedelta(days=1)
    await database["work_result"].update_many(
        {"student": "ada", "course": group.course}, {"$set": {"finished_at": early}}
    )
    receipts = recent._receipts.kept[group.course, "mp1"]  # noqa: SLF001 - time passes
    monkeypatch.setattr(receipts, "read_at", receipts.read_at - timedelta(hours=1))
    assert [str(each.grade.points) for each in (await reads.draft(group.course, "mp1")).entries] == ["3", "10"]

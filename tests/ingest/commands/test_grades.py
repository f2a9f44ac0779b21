"""Publishing grades through the real store: versions, undo, two publishers at once, and a crash at each point."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from classes import CONFIG, IMAGE, Class, HandIn
from crashing import Crash
from pymongo.asynchronous.database import AsyncDatabase
from stored import course, database, shared_place, store

from broadway.domain.grade import GradeStatus
from broadway.domain.grade_adjustment import AdjustmentOrder
from broadway.domain.grade_book import CHUNK, AdjustmentKind, MadeFrom, Version
from broadway.domain.handed_in import digest_of_config
from broadway.domain.job import Outcome
from broadway.domain.roster import RosterEntry
from broadway.ingest.commands.grade_adjustments import (
    MAX_OF_STUDENT,
    GradeAdjusting,
    NoAdjustmentError,
)
from broadway.ingest.commands.grades import (
    BookMovedError,
    GradeChanges,
    NoVersionError,
    Publication,
    PublishOrder,
    Undo,
)
from broadway.ingest.commands.limits import RejectedError
from broadway.ingest.commands.submit import KeyReusedError
from broadway.ingest.grade_composition import standing_reads
from broadway.lifecycle.grade_books import changed_by, history
from broadway.mongo.store import Store
from broadway.runtime.crashpoints import CrashPointError, Point

__all__ = ["course", "database", "shared_place", "store"]

DUE = datetime(2026, 11, 20, tzinfo=UTC)
SETTINGS: dict[str, Any] = {"points": 10, "policy": {"deadline": {"due": "2026-11-20T00:00"}}}
STUDENTS = [f"s{number:03}" for number in range(CHUNK + 20)]  # in two chunks
OF_BOOKS = ("grade_entries", "grade_book", "grade_book_published")
POINTS = [point for point in Point if point.value.startswith("grades.")]

Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def group(store: Store, course: str) -> Class:
    """An assignment of two students, of whom one has submitted."""
    made = Class(store, course)
    await made.prepare(["ada", "bob"], SETTINGS)
    await made.hand_in(HandIn("ada", DUE - timedelta(days=1), score="7"))
    return made


@pytest.fixture
def changes(store: Store, group: Class) -> GradeChanges:
    return GradeChanges(store.grades.books, group.reads)


async def published(group: Class) -> dict[str, str]:
    """Return the published points by student."""
    book = await group.reads.published(group.course, group.assignment)
    return {each.student: str(each.grade.points) for each in book.entries} if book else {}


async def numbers(group: Class) -> list[int]:
    return [each.number for each in await history(group.store.grades.books, group.course, group.assignment, limit=99)]


async def test_a_class_is_published_undone_and_published_again(store: Store, course: str, database: Database) -> None:
    """Two chunks of students; the second publication changes one, and shares the chunks of the others."""
    group, books = Class(store, course), store.grades.books
    await group.prepare(STUDENTS, SETTINGS)
    await group.hand_in(*(HandIn(each, DUE - timedelta(hours=1), score=str(n % 11)) for n, each in enumerate(STUDENTS)))
    changes = GradeChanges(books, group.reads)
    publish = partial(changes.publish_draft, course, "mp1")

    first = await publish(PublishOrder(0, by="ana", reason="done", note="well done"))
    assert await published(group) == {each: str(n % 11) for n, each in enumerate(STUDENTS)}
    assert (first.configs, first.images) == ((digest_of_config(CONFIG),), (IMAGE,))
    pointer = await books.published(course, "mp1")
    assert pointer is not None
    assert (pointer.version, pointer.before, pointer.students, pointer.by) == (1, 0, len(STUDENTS), "ana")
    assert await changed_by(books, pointer) == STUDENTS

    await group.hand_in(HandIn("s003", DUE - timedelta(minutes=1), score="10", number=2))
    second = await publish(PublishOrder(1, by="ana"))
    assert second.chunks[1] == first.chunks[1]
    pointer = await books.published(course, "mp1")
    assert pointer is not None
    assert await changed_by(books, pointer) == ["s003"]
    assert pointer.announce_at is not None

    third = await changes.undo(course, "mp1", Undo(2, by="bea", reason="too early"))
    assert (third.number, third.made_from, third.source, third.chunks) == (3, MadeFrom.UNDO, "1", first.chunks)
    assert (await published(group))["s003"] == "3"

    fourth = await publish(PublishOrder(3, by="ana"))
    assert fourth.chunks == second.chunks
    assert (await published(group))["s003"] == "10"
    assert await numbers(group) == [4, 3, 2, 1]
    stored = await database["grade_entries"].count_documents({"_id": {"$in": [c.digest for c in first.chunks]}})
    assert stored == len(first.chunks) == 2


async def test_of_two_publishers_one_wins_and_the_other_is_told(
    store: Store, group: Class, changes: GradeChanges
) -> None:
    for based_on in range(3):
        orders = [PublishOrder(based_on, by=name) for name in ("ana", "bea")]
        results = await asyncio.gather(
            *(changes.publish_draft(group.course, "mp1", order) for order in orders), return_exceptions=True
        )
        (won,) = [each for each in results if isinstance(each, Version)]
        (lost,) = [each for each in results if isinstance(each, BookMovedError)]
        pointer = await store.grades.books.published(group.course, "mp1")
        assert pointer is not None
        assert (pointer.version, pointer.by) == (won.number, won.by)
        assert lost.present == pointer or lost.present is None  # None: told before the first one was published
        # The one that lost may have left a version: it is not in the history, and the next one is based on the winner.
        assert (await numbers(group))[0] == won.number
        if won.number != based_on + 1:
            break


@pytest.mark.parametrize("point", POINTS, ids=str)
async def test_a_crash_changes_nothing_or_all_and_a_repetition_continues(
    group: Class, changes: GradeChanges, crash: Crash, point: Point, database: Database
) -> None:
    await changes.publish_draft(group.course, "mp1", PublishOrder(0))
    await group.hand_in(HandIn("bob", DUE - timedelta(days=1), score="9"))
    order = PublishOrder(1, by="ana", key="once")
    crash(point)

    with pytest.raises(CrashPointError):
        await changes.publish_draft(group.course, "mp1", order)

    is_done = point is Point.GRADES_POINTER_MOVED
    assert await published(group) == {"ada": "7", "bob": "9" if is_done else "None"}
    assert await numbers(group) == ([2, 1] if is_done else [1])
    await group.hand_in(HandIn("bob", DUE - timedelta(hours=1), score="2", number=2))
    made = await changes.publish_draft(group.course, "mp1", order)
    again = await changes.publish_draft(group.course, "mp1", order)
    assert made == again
    assert made.number == 2
    # After the version is stored, a repetition publishes what the first request saw.
    assert (await published(group))["bob"] == ("2" if point is Point.GRADES_ENTRIES_STORED else "9")
    assert await database["grade_book"].count_documents({"course": group.course}) == 2


async def test_after_a_crash_another_publisher_takes_the_next_number(
    group: Class, changes: GradeChanges, crash: Crash
) -> None:
    crash(Point.GRADES_VERSION_STORED)
    with pytest.raises(CrashPointError):
        await changes.publish_draft(group.course, "mp1", PublishOrder(0, by="ana", key="once"))
    assert await published(group) == {}

    made = await changes.publish_draft(group.course, "mp1", PublishOrder(0, by="bea"))

    assert (made.number, await numbers(group)) == (2, [2])
    assert await group.reads.version(group.course, "mp1", 1) is None
    with pytest.raises(BookMovedError) as told:
        await changes.publish_draft(group.course, "mp1", PublishOrder(0, by="ana", key="once"))
    assert told.value.present is not None
    assert told.value.present.version == 2


async def test_the_first_publication_can_be_undone(store: Store, group: Class, changes: GradeChanges) -> None:
    await changes.publish_draft(group.course, "mp1", PublishOrder(0))
    made = await changes.undo(group.course, "mp1", Undo(1))
    pointer = await store.grades.books.published(group.course, "mp1")
    assert (made.students, pointer and pointer.is_visible) == (0, False)
    assert (await changes.undo(group.course, "mp1", Undo(2))).students == 2  # an undo can be undone, too


async def test_an_undo_needs_an_earlier_version(group: Class, changes: GradeChanges) -> None:
    with pytest.raises(NoVersionError, match="nothing is published"):
        await changes.undo(group.course, "mp1", Undo(0))
    await changes.publish_draft(group.course, "mp1", PublishOrder(0))
    for number in (1, 2):
        with pytest.raises(NoVersionError, match=f"version {number} is not an earlier"):
            await changes.undo(group.course, "mp1", Undo(1, to=number))
    with pytest.raises(BookMovedError, match="version 1 is published, not version 7"):
        await changes.undo(group.course, "mp1", Undo(7))


async def test_a_key_is_for_one_publication(group: Class, changes: GradeChanges) -> None:
    first = await changes.publish_draft(group.course, "mp1", PublishOrder(0, key="k"))
    for another in (PublishOrder(0, reason="another", key="k"), PublishOrder(first.number, key="k")):
        with pytest.raises(KeyReusedError):
            await changes.publish_draft(group.course, "mp1", another)
    await changes.publish_draft(group.course, "mp1", PublishOrder(1))
    undone = await changes.undo(group.course, "mp1", Undo(2, to=1, key="u"))
    assert await changes.undo(group.course, "mp1", Undo(2, to=1, key="u")) == undone
    for other in (0, None):
        with pytest.raises(KeyReusedError):
            await changes.undo(group.course, "mp1", Undo(2, to=other, key="u"))


async def test_given_entries_are_published_as_they_are(group: Class, changes: GradeChanges) -> None:
    draft = await group.reads.draft(group.course, "mp1")
    given = Publication(draft.entries[:1], 0, MadeFrom.REGRADE, 4, source="r1", key="k", configs=("c",))
    made = await changes.publish(group.course, "mp1", given)
    assert (made.made_from, made.source, made.settings_version, made.configs) == (MadeFrom.REGRADE, "r1", 4, ("c",))
    assert await published(group) == {"ada": "7"}
    assert await changes.publish(group.course, "mp1", given) == made


async def test_a_published_regrade_stays_in_the_draft(group: Class, changes: GradeChanges) -> None:
    (job,) = await group.grade([HandIn("ada", DUE, score="9")], trigger={"regrade": "r1"})
    assert _points(await group.reads.draft(group.course, "mp1"))["ada"] == "7"
    draft = await group.reads.draft(group.course, "mp1")
    changed = [
        replace(each, execution=f"e-{job}", grade=replace(each.grade, points=Decimal(9)))
        if each.student == "ada"
        else each
        for each in draft.entries
    ]
    await changes.publish(group.course, "mp1", Publication(changed, 0, MadeFrom.REGRADE))
    assert _points(await group.reads.draft(group.course, "mp1"))["ada"] == "9"
    await changes.undo(group.course, "mp1", Undo(1))
    assert _points(await group.reads.draft(group.course, "mp1"))["ada"] == "7"


async def test_a_published_regrade_holds_for_all_submissions_of_a_student(
    store: Store, course: str, changes: GradeChanges
) -> None:
    group, early = Class(store, course, "mp2"), DUE - timedelta(days=1)
    await group.prepare(["ada"], {"points": 10, "policy": {"counts": "best"}})
    await group.hand_in(HandIn("ada", early, score="8"), HandIn("ada", DUE, score="9", number=2))
    again = [HandIn("ada", early, score="5"), HandIn("ada", DUE, score="6", number=2)]
    await group.grade(again, trigger={"regrade": "r1"})
    all_of = await store.grades.works.results(course, "mp2")
    results = {each.handed_in.id: each for each in all_of if each.handed_in.regrade}
    _, new = await group.reads.drafts(course, "mp2", results)
    await changes.publish(course, "mp2", Publication(new.entries, 0, MadeFrom.REGRADE))
    assert await published(group) == _points(await group.reads.draft(course, "mp2")) == {"ada": "6"}

    await group.hand_in(HandIn("ada", DUE, score="7", number=3))
    await changes.publish_draft(course, "mp2", PublishOrder(1))
    assert await published(group) == _points(await group.reads.draft(course, "mp2")) == {"ada": "7"}
    await changes.undo(course, "mp2", Undo(2, to=0))
    assert _points(await group.reads.draft(course, "mp2")) == {"ada": "9"}


def _points(draft: Any) -> dict[str, str]:
    return {each.student: str(each.grade.points) for each in draft.entries}


async def test_an_adjustment_is_in_the_draft_until_it_is_withdrawn(group: Class) -> None:
    adjusting = GradeAdjusting(group.store.grades.adjustments, group.reads)
    orders = [
        AdjustmentOrder(student="ada", points=Decimal("1.5"), reason="a test was wrong"),
        AdjustmentOrder(student="bob", kind=AdjustmentKind.EXCUSED, reason="was ill"),
    ]
    made = await adjusting.adjust(group.course, "mp1", orders, by="ana", key="k")
    assert await adjusting.adjust(group.course, "mp1", orders, by="ana", key="k") == made
    with pytest.raises(KeyReusedError):
        await adjusting.adjust(group.course, "mp1", orders[1:], by="ana", key="k")
    draft = await group.reads.draft(group.course, "mp1")
    assert [(str(e.grade.points), e.grade.status, e.adjustments) for e in draft.entries] == [
        ("8.5", GradeStatus.GRADED, (made[0].id,)),
        ("None", GradeStatus.EXCUSED, (made[1].id,)),
    ]

    withdrawn = await adjusting.withdraw(group.course, "mp1", made[0].id, by="bea", reason="it was right")
    assert (withdrawn.withdrawn_by, withdrawn.withdrawn_reason) == ("bea", "it was right")
    assert _points(await group.reads.draft(group.course, "mp1"))["ada"] == "7"
    assert await group.reads.adjustments(group.course, "mp1") == [withdrawn, made[1]]
    for identity in (made[0].id, "unknown"):
        with pytest.raises(NoAdjustmentError):
            await adjusting.withdraw(group.course, "mp1", identity, by="bea")


async def test_a_student_without_a_grade_has_no_adjustments(store: Store, course: str) -> None:
    group = Class(store, course)
    await group.prepare(["ada", RosterEntry(student="team", members=("bob", "cyd"))], SETTINGS)
    await group.hand_in(HandIn("eve", DUE))
    adjusting = GradeAdjusting(store.grades.adjustments, group.reads)

    def of(*names: str) -> list[AdjustmentOrder]:
        return [AdjustmentOrder(student=name, points=Decimal(1), reason="r") for name in names]

    await adjusting.adjust(course, "mp1", of("ada", "bob", "eve"), by="ana")
    for unknown in ("dan", "team"):  # the draft has the members of a group, and not the group
        with pytest.raises(RejectedError, match=f"student: {unknown} is not a student in the roster of mp1"):
            await adjusting.adjust(course, "mp1", of("ada", unknown), by="ana")
    assert len(await group.reads.adjustments(course, "mp1")) == len(("ada", "bob", "eve"))


async def test_the_adjustments_of_a_student_are_bounded(group: Class) -> None:
    adjusting = GradeAdjusting(group.store.grades.adjustments, group.reads)
    order = AdjustmentOrder(student="ada", points=Decimal(1), reason="more")
    await adjusting.adjust(group.course, "mp1", [order] * MAX_OF_STUDENT, by="ana")
    with pytest.raises(RejectedError, match="ada would have more than 50 adjustments"):
        await adjusting.adjust(group.course, "mp1", [order], by="ana")
    assert len(await group.reads.adjustments(group.course, "mp1")) == MAX_OF_STUDENT


async def test_an_error_of_the_infrastructure_is_named_and_published_as_no_grade(store: Store, course: str) -> None:
    group = Class(store, course)
    await group.prepare(["ada"], SETTINGS)
    await group.hand_in(HandIn("ada", DUE - timedelta(days=1), Outcome.INFRASTRUCTURE_ERROR))
    (entry,) = (await group.reads.draft(course, "mp1")).entries
    assert (entry.grade.status, entry.grade.unsettled) == (GradeStatus.ERROR, (group.submission("ada"),))


async def test_parts_of_reports_are_visible_after_publishing_until_that_is_undone(
    store: Store, group: Class, changes: GradeChanges
) -> None:
    standings = standing_reads(store, group.reads)

    async def is_published() -> bool:
        return (await standings.of_report(group.course, "mp1", "ada")).is_published

    assert not await is_published()
    await changes.publish_draft(group.course, "mp1", PublishOrder(0))
    assert await is_published()
    await changes.undo(group.course, "mp1", Undo(1))
    assert not await is_published()

"""The results of students' works: each finished job has one, whatever crashed between its outcome and its update."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from classes import CONFIG, IMAGE, Class, HandIn
from crashing import Crash

from broadway.domain.handed_in import digest_of_config
from broadway.domain.job import JobState, Outcome
from broadway.domain.marks import Marks
from broadway.domain.report import Source
from broadway.domain.results_of_work import Among
from broadway.mongo.store import Store
from broadway.runtime.crashpoints import CrashPointError, Point

POINTS = (Point.OUTCOME_INSERTED, Point.OUTCOME_OF_WORK_STORED, Point.OUTCOME_OF_WORK_KEPT)
AT = datetime(2026, 11, 20, tzinfo=UTC)


async def test_a_result_has_what_grades_need(store: Store, course: str) -> None:
    group = Class(store, course)
    await group.hand_in(HandIn("ada", AT, Outcome.FAILED, "2.5"), HandIn("bob", AT, Outcome.SUCCEEDED, None))

    found = {each.handed_in.student: each for each in await store.grades.works.results(course, "mp1")}

    ada = found["ada"]
    assert (ada.handed_in.id, ada.handed_in.at, ada.outcome) == (group.submission("ada"), AT, Outcome.FAILED)
    assert (ada.generation, ada.execution, ada.images) == (1, f"e-{ada.job}", (IMAGE,))
    assert ada.marks == Marks(Source.AUTOLAB, Decimal("2.5"), Decimal(10))
    assert ada.handed_in.config == digest_of_config(CONFIG)
    assert found["bob"].marks == Marks()
    assert await store.grades.works.results(course, "mp2") == []
    assert [each.job for each in await store.grades.works.results(course, "mp1", Among(("bob",)))] == [found["bob"].job]
    assert await store.grades.works.results(course, "mp1", Among(since=datetime.now(UTC) + timedelta(hours=1))) == []


@pytest.mark.parametrize("point", POINTS, ids=str)
async def test_a_repair_keeps_the_result_before_it_ends_the_job(
    store: Store, course: str, crash: Crash, point: Point
) -> None:
    group = Class(store, course)
    crash(point)
    with pytest.raises(CrashPointError):
        await group.hand_in(HandIn("ada", AT, score="7"))
    (waiting,) = await store.grades.works.waiting(course, "mp1")
    assert waiting.id == group.submission("ada")
    (open_job,) = [job for job in await store.jobs.held_by("g1") if job.course == course]

    moved = await store.jobs.complete([open_job])

    assert moved[open_job.id].after.state is JobState.FINISHED
    (result,) = await store.grades.works.results(course, "mp1")
    assert (result.job, result.marks, result.images) == (
        open_job.id,
        Marks(Source.AUTOLAB, Decimal(7), Decimal(10)),
        (IMAGE,),
    )
    assert await store.grades.works.waiting(course, "mp1") == []
    assert await store.grades.works.receipts(course, "mp1") == []


async def test_a_rerun_has_a_result_of_its_own(store: Store, course: str) -> None:
    group = Class(store, course)
    await group.hand_in(HandIn("ada", AT))
    (first,) = await store.grades.works.results(course, "mp1")
    await store.jobs.move({first.job: lambda job: job.rerun(1, 2, datetime.now(UTC))})
    assert [each.student for each in await store.grades.works.waiting(course, "mp1")] == ["ada"]
    await store.jobs.move({first.job: lambda job: job.cancel("staff", datetime.now(UTC))})
    found = await store.grades.works.results(course, "mp1")
    assert [(each.generation, each.outcome) for each in found] == [(1, Outcome.SUCCEEDED), (2, Outcome.CANCELLED)]


async def test_the_parts_of_a_class_are_the_whole_class(store: Store, course: str) -> None:
    group = Class(store, course)
    names = ["ada", "bob", "cyd", "dee"]
    await group.hand_in(*(HandIn(name, AT) for name in names))
    await group.hand_in(*(HandIn(name, AT, outcome=None, number=2) for name in names))
    for cuts in ((), ("bob",), ("cyd", "bob"), ("a", "dee"), ("z",)):
        results = await store.grades.works.results(course, "mp1", Among(cuts=cuts))
        receipts = await store.grades.works.receipts(course, "mp1", Among(cuts=cuts))
        assert sorted(each.handed_in.student for each in results) == names
        assert sorted(each.student for each in receipts) == names


async def test_receipts_of_a_class_are_those_without_a_result(store: Store, course: str) -> None:
    """Each upload is found by its receipt or by its result, whatever the result names."""
    group = Class(store, course)
    other = [HandIn("bob", AT, number=2), HandIn("cyd", AT, number=3)]
    await group.hand_in(HandIn("ada", AT), HandIn("ada", AT, outcome=None, number=2))
    for each in (other[0], replace(other[1], at=AT - timedelta(hours=1))):
        assert await store.submissions.add(group.submitted(each))
    await store.submissions.add(replace(group.submitted(HandIn("dee", AT)), id=group.submission("eve")))
    await group.grade([*other, HandIn("eve", AT)])

    found = await store.grades.works.receipts(course, "mp1")

    assert sorted((each.id, each.student) for each in found) == sorted(
        [(group.submission("ada", 2), "ada"), (group.submission("cyd", 3), "cyd"), (group.submission("eve"), "dee")]
    )
    assert {each.student for each in await store.grades.works.receipts(course, "mp1", Among(("ada", "bob")))} == {
        "ada",
        "bob",
    }
    since = await store.grades.works.receipts(course, "mp1", Among(since=AT - timedelta(seconds=1)))
    assert sorted(each.student for each in since) == ["ada", "ada", "bob", "dee"]
    (one,) = await store.grades.works.receipts_of(course, "mp1", [group.submission("ada")])
    assert (one.student, one.at) == ("ada", AT)
    assert await store.grades.works.receipts_of(course, "mp2", [one.id]) == []

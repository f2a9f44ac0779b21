"""Deletion of one student's data in the real store: nothing names the student, and others keep all."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from deleted_students import NOW, Database, TracedClass, naming, of_others
from old_classes import REPORT
from stored import course, database, shared_place, store

from broadway.domain.deletion import ERASED, Deletion, SharedNameError, UnknownStudentError, replaced
from broadway.domain.grade_book import BookEntry
from broadway.domain.job import Job, JobState, Outcome, RetryPolicy
from broadway.domain.originals import OriginalFile, Reported
from broadway.domain.result import StageResult
from broadway.domain.roster import Roster, RosterEntry
from broadway.ingest.commands.artifacts import ArtifactsRefusedError, ArtifactUploads, GivenArtifacts
from broadway.ingest.commands.student_deletion import DeletionSteps, StudentDeletion
from broadway.ingest.retention_composition import deletion_of, deletion_steps
from broadway.lifecycle.recording import MAX_WITH_OUTCOME, Recorder
from broadway.messages.events import JobFinished
from broadway.mongo.store import Store
from broadway.runtime.crashpoints import VARIABLE, CrashPointError, Point, arm

__all__ = ["course", "database", "shared_place", "store"]

# In the order in which a deletion reaches them.
POINTS = (
    Point.DELETION_COUNTED,
    Point.RETENTION_SUBMISSIONS_REMOVED,
    Point.DELETION_WITHDRAWN,
    Point.DELETION_CANCELLED,
    Point.DELETION_NAMES_REPLACED,
    Point.RETENTION_NOTED,
    Point.RETENTION_RUNS_REMOVED,
    Point.RETENTION_JOBS_REMOVED,
    Point.DELETION_JOBS_CLEARED,
    Point.DELETION_RUNS_CLEARED,
    Point.DELETION_CHUNKS_STORED,
    Point.DELETION_VERSION_POINTED,
    Point.DELETION_GRADES_REMOVED,
)
REASON = "asked for it"
COUNTS = {
    "submissions": 2,
    "runs": 2,
    "jobs": 2,
    "jobs_in_other_runs": 2,
    "logs": 2,
    "reports": 2,
    "grade_entries": 2,
    "adjustments": 1,
    "extensions": 1,
    "late_days": 1,
    "choices": 1,
    "regrade_parts": 1,
    "rosters": 1,
    "tokens": 1,
    "sessions": 1,
    "deliveries": 2,
    "quotas": 1,
    "callbacks": 1,
    "dead_letters": 1,
    "audit": 2,
}


@pytest.fixture
def crash(tmp_path: Path) -> Iterator[Callable[[Point], object]]:
    arm({VARIABLE: str(tmp_path / "crash")})
    yield lambda point: (tmp_path / "crash").write_text(f"{point.value} raise")
    arm({})


@pytest.fixture
async def group(store: Store, course: str) -> TracedClass:
    made = TracedClass(store, course)
    await made.make()
    return made


def parts(store: Store) -> tuple[StudentDeletion, DeletionSteps]:
    """Return the requests, and steps that have no open work to cancel."""
    return deletion_of(store), deletion_steps(store, cast(Any, None), "test")


async def carried_out(store: Store, deletion: Deletion) -> Deletion:
    """Return a deletion after its end."""
    _, steps = parts(store)
    for _ in range(5):
        found = await store.student_erasure.deletions.latest(deletion.course, deletion.pseudonym)
        assert found is not None
        if found.ended_at:
            await store.reports.sweep_files(datetime.now(UTC) + timedelta(days=1))  # bytes are swept a day later
            return found
        await steps.advance(found)
    raise AssertionError("the deletion does not end")


async def book(store: Store, group: TracedClass, number: int) -> list[BookEntry]:
    version = await store.grades.books.version(group.course, "mp1", number)
    assert version is not None
    entries = await store.grades.books.entries(version.chunks)
    assert version.students == len(entries)
    return entries


async def test_nothing_names_a_deleted_student_and_others_keep_all(
    group: TracedClass, store: Store, database: Database, course: str
) -> None:
    requests, _ = parts(store)
    others = await of_others(database, group.ada)
    books = [await book(store, group, number) for number in (1, 2)]
    counted = await requests.count(course, group.ada, by="staff", reason=REASON)
    assert counted.counts == COUNTS
    assert len(await naming(database, group.ada)) > 20, "a dry run removes nothing"

    ordered = await requests.order(course, group.ada, by="staff", reason=f"{group.ada} {REASON}")
    receipt = await carried_out(store, ordered)

    assert await naming(database, group.ada) == []
    assert receipt.counts == COUNTS
    assert receipt.reason == f"{receipt.pseudonym} {REASON}"
    assert receipt.ended_at is not None
    assert receipt.digest == receipt.digest_at(receipt.ended_at)
    after = await of_others(database, group.ada)
    assert len(others) > 20
    assert {key: after.get(key) for key in others} == others
    for number, before in enumerate(books, 1):
        assert await book(store, group, number) == [each for each in before if each.student != group.ada]
    pointer = await store.grades.books.published(course, "mp1")
    assert pointer is not None
    assert (pointer.version, pointer.students) == (2, 3)
    assert [record async for record in store.student_data.records(course, group.ada)] == []
    assert await requests.order(course, group.ada, by="another", reason="again") == receipt


async def test_runs_over_a_roster_keep_their_numbers(group: TracedClass, store: Store, course: str) -> None:
    requests, _ = parts(store)
    found = await store.runs.of_assignments([f"{course}/mp1"], before=None, limit=9)
    runs = [run for run in found if run.students == 2]
    before = {run.id: await store.jobs.of_run(run.id) for run in runs}
    receipt = await carried_out(store, await requests.order(course, group.ada, by="staff", reason=REASON))

    assert len(runs) == 2
    for run in runs:
        bobs, cleared = await store.jobs.of_run(run.id)
        assert bobs == before[run.id][0]
        assert cleared.id == before[run.id][1].id
        assert (cleared.outcome, cleared.state) == (Outcome.SUCCEEDED, JobState.FINISHED)
        assert (cleared.reason, cleared.handed_in, cleared.results) == (ERASED, None, None)
        stored = await store.runs.get(run.id)
        assert stored is not None
        assert [each["BROADWAY_STUDENT"] for each in stored.students_env] == [group.bob, receipt.pseudonym]
        assert "EMAIL" not in stored.students_env[1]


async def test_a_crash_at_each_point_is_repaired(
    group: TracedClass, store: Store, database: Database, course: str, crash: Callable[[Point], object]
) -> None:
    requests, steps = parts(store)
    crash(Point.DELETION_ORDERED)
    with pytest.raises(CrashPointError):
        await requests.order(course, group.ada, by="staff", reason=REASON)
    ordered = await requests.latest(course, group.ada)
    assert ordered is not None
    for point in POINTS:
        crash(point)
        latest = await requests.latest(course, group.ada)
        assert latest is not None
        with pytest.raises(CrashPointError, match=point.value):
            await steps.advance(latest)
    receipt = await carried_out(store, ordered)
    assert await naming(database, group.ada) == []
    assert receipt.counts == COUNTS
    for number in (1, 2):
        assert group.bob in {each.student for each in await book(store, group, number)}
    assert await database["removal"].count_documents({"course": course, "is_open": True}) == 0


def test_every_point_of_deletions_is_tested() -> None:
    own = {point for point in Point if point.value.startswith("deletion.")}
    assert own <= {*POINTS, Point.DELETION_ORDERED}


async def test_the_group_of_a_member_keeps_its_work(
    group: TracedClass, store: Store, database: Database, course: str
) -> None:
    requests, _ = parts(store)
    await carried_out(store, await requests.order(course, group.zed, by="staff", reason=REASON))
    assert await naming(database, group.zed) == []
    roster = await store.rosters.get(course, "mp1")
    assert roster is not None
    entry = roster.of_student(group.team)
    assert entry is not None
    assert entry.members == (f"yan-{course}",)
    assert await store.submissions.get(course, group.submission(group.team))


async def test_a_student_who_hands_in_again_can_be_deleted_again(
    group: TracedClass, store: Store, database: Database, course: str
) -> None:
    requests, _ = parts(store)
    first = await carried_out(store, await requests.order(course, group.ada, by="staff", reason=REASON))
    await store.rosters.put(course, "mp2", Roster(students=(RosterEntry(student=group.ada),)))
    second = await carried_out(store, await requests.order(course, group.ada, by="staff", reason=REASON))
    assert (second.number, second.pseudonym, dict(second.counts)) == (2, first.pseudonym, {"rosters": 1})
    assert await naming(database, group.ada) == []


async def test_a_late_outcome_of_a_cleared_job_leaves_nothing(
    group: TracedClass, store: Store, database: Database, course: str
) -> None:
    class Publisher:
        async def publish(self, *_: object, **__: object) -> None:
            return

    requests, _ = parts(store)
    await carried_out(store, await requests.order(course, group.ada, by="staff", reason=REASON))
    found = await database["grading_job"].find({"course": course, "reason": ERASED}).to_list()
    job: Job = (await store.jobs.get_many([str(found[0]["_id"])]))[str(found[0]["_id"])]
    given = (store.jobs, store.logs, store.graders, cast(Any, Publisher()), RetryPolicy(), timedelta(minutes=1))
    reported = Reported(report=REPORT, files=[OriginalFile.of("results.json", course.encode())])
    late = JobFinished(
        job_id=job.id,
        run_id=job.run_id,
        course=course,
        generation=job.generation,
        execution_id=f"late{course}",
        grader_id="g2",
        started_at=NOW,
        finished_at=NOW,
        outcome=Outcome.SUCCEEDED,
        results=[StageResult(success=True, state={"ExitCode": 0}, reported=reported).entry()],
        stdout=group.ada * MAX_WITH_OUTCOME,
    )
    for event in (late, late.model_copy(update={"stdout": group.ada, "generation": job.generation + 1})):
        await Recorder(*given, store.reports).record([event])
    with pytest.raises(ArtifactsRefusedError):
        await ArtifactUploads(store.blobs, store.artifacts, timedelta(days=1)).keep(job, GivenArtifacts("e", "g2", ()))
    await store.reports.sweep_files(datetime.now(UTC) + timedelta(days=1))
    assert await naming(database, group.ada) == []
    assert await database["job_report"].count_documents({"grading_job_id": job.id}) == 0


async def test_what_cannot_be_deleted_is_refused(group: TracedClass, store: Store, course: str) -> None:
    requests, _ = parts(store)
    with pytest.raises(UnknownStudentError):
        await requests.order(course, "unknown-to-all", by="staff", reason=REASON)
    named = RosterEntry(student=group.ada, members=(group.ada, group.bob))
    await store.rosters.put(course, "mp1", Roster(students=(named,)))
    with pytest.raises(SharedNameError):
        await requests.order(course, group.ada, by="staff", reason=REASON)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada", "X"),
        ("/students/ada/export", "/students/X/export"),
        ("/students/ada", "/students/X"),
        ('{"student":"ada","points":1}', '{"student":"X","points":1}'),
        ("ada was ill, adam was not", "X was ill, adam was not"),
        ("canada", "canada"),
    ],
)
def test_a_name_is_replaced_as_a_whole(text: str, expected: str) -> None:
    assert replaced(text, ["ada"], "X") == expected
    assert replaced(replaced(text, ["ada"], "X"), ["ada"], "X") == expected


def test_a_number_is_replaced_only_where_it_is_a_name() -> None:
    assert replaced('{"student":"1","points":1}', ["1"], "X") == '{"student":"X","points":1}'


def test_a_receipt_has_a_digest_of_its_fields() -> None:
    made = Deletion("cs", "deleted-0", 1, "staff", "r", NOW, counts={"jobs": 1})
    assert made.digest_at(NOW) != replace(made, counts={"jobs": 2}).digest_at(NOW)

"""Passes of retention over the real store: what goes, what stays, and a crash at each point."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

import pytest
from bson import ObjectId
from classes import HandIn
from old_classes import BEFORE_DUE, BEST, LATER, REPORT, OldClass, books_of, run_of
from pymongo.asynchronous.database import AsyncDatabase
from stored import course, database, shared_place, store

from broadway.domain.access import AccessToken, TokenKind
from broadway.domain.assignment_settings import AssignmentSettings, SettingsVersion
from broadway.domain.job import Outcome, RetryPolicy
from broadway.domain.originals import OriginalFile, Reported, unpacked
from broadway.domain.regrade import Item, Part, PartKind, Regrade, RegradeOrder
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.domain.result import StageResult
from broadway.domain.retention import Chosen, CourseRules, Pass, Referred
from broadway.domain.webhook import Delivery, DeliveryState
from broadway.ingest.commands.grades import GradeChanges, PublishOrder
from broadway.ingest.commands.retention import LEASE, PassEndedError
from broadway.ingest.commands.retention_pass import BUSY, Turn, WorkChoices
from broadway.ingest.reads.retention_works import NEW_POLICY, REGRADE, UNPUBLISHED
from broadway.ingest.retention_composition import retention_steps
from broadway.lifecycle.recording import MAX_WITH_OUTCOME, Recorder
from broadway.messages.events import JobFinished
from broadway.mongo.store import Store
from broadway.runtime.crashpoints import VARIABLE, CrashPointError, Point, arm
from broadway.settings.retention import RetentionSettings

__all__ = ["course", "database", "shared_place", "store"]

POINTS = [point for point in Point if point.value.startswith("retention.")]
NOW = datetime.now(UTC)

Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
def crash(tmp_path: Path) -> Iterator[Callable[[Point], object]]:
    arm({VARIABLE: str(tmp_path / "crash")})
    yield lambda point: (tmp_path / "crash").write_text(f"{point.value} raise")
    arm({})


@pytest.fixture
async def group(store: Store, course: str) -> OldClass:
    """Ada's second of three submissions counts, and bob's first of two; nothing is published."""
    made = OldClass(store, course)
    await made.prepare(["ada", "bob"], BEST)
    scores = (("ada", 1, "3"), ("ada", 2, "9"), ("ada", 3, "5"), ("bob", 1, "4"), ("bob", 2, "2"))
    await made.hand_in_old(*(HandIn(name, BEFORE_DUE, score=score, number=number) for name, number, score in scores))
    return made


async def left(database: Database, course: str) -> dict[str, int]:
    """Return the numbers of documents of a course's works, by collection."""
    runs = [
        str(each["_id"]) for each in await database["grading_run"].find({"assignment_id": f"{course}/mp1"}).to_list()
    ]
    jobs = [str(each["_id"]) for each in await database["grading_job"].find({"course": course}).to_list()]
    return {
        "submission": await database["submission"].count_documents({"course": course}),
        "grading_run": len(runs),
        "grading_job": len(jobs),
        "job_outcome": await database["job_outcome"].count_documents({"course": course}),
        "work_result": await database["work_result"].count_documents({"course": course}),
        "job_report": await database["job_report"].count_documents({"grading_job_id": {"$in": jobs}}),
    }


async def test_works_that_no_grade_needs_go_and_nothing_else(
    group: OldClass, database: Database, store: Store, course: str
) -> None:
    await group.publish()
    draft, books = await group.reads.draft(course, "mp1"), await books_of(database, course)
    reports = await database["job_report"].count_documents({})
    expected = {"submissions": 3, "runs": 3, "jobs": 3}

    dry = await group.make_pass(works=365, is_dry=True)
    assert dict(dry.numbers) == expected
    assert (await left(database, course))["grading_run"] == 5
    done = await group.make_pass(works=365)

    assert dict(done.numbers) == expected
    assert set((await left(database, course)).values()) == {2}
    assert await database["job_report"].count_documents({}) == reports - 3
    assert await store.submissions.get(course, group.submission("ada", 2))
    assert await store.submissions.get(course, group.submission("bob", 1))
    after = await group.reads.draft(course, "mp1")
    told = [(each.grade.points, each.grade.submission, each.job, each.execution) for each in draft.entries]
    assert [(each.grade.points, each.grade.submission, each.job, each.execution) for each in after.entries] == told
    assert await books_of(database, course) == books
    assert dict((await group.make_pass(works=365)).numbers) == {}


async def test_what_is_gone_is_answered_with_its_date(group: OldClass, store: Store, course: str) -> None:
    await group.publish()
    run = run_of(course, "ada-1")
    (job,) = await store.jobs.of_run(run)
    await group.make_pass(works=365)
    day = f"{NOW + LATER:%Y-%m-%d}"
    noted = [await store.removals.noted(each, course) for each in (run, job.id, group.submission("ada", 1))]
    assert [each.text if each else "" for each in noted] == [
        f"this {kind} was deleted by retention on {day}" for kind in ("run", "job", "submission")
    ]
    assert await store.removals.noted(run, "another") is None
    assert await store.removals.noted(job.id, "another") is None
    await store.removals.forget(NOW + LATER + timedelta(days=500))
    assert await store.removals.noted(run, course) is None


async def test_works_stay_until_their_grades_are_published(group: OldClass, database: Database, course: str) -> None:
    counts = await group.make_pass(works=365)
    assert (dict(counts.numbers), counts.kept) == ({}, {"mp1": UNPUBLISHED})
    assert (await left(database, course))["submission"] == 5


async def test_works_stay_while_a_new_policy_could_count_them(group: OldClass, store: Store, course: str) -> None:
    await group.publish()
    latest = AssignmentSettings.model_validate({**BEST, "policy": {**BEST["policy"], "counts": "latest"}})
    assert await store.assignment_settings.add(course, "mp1", SettingsVersion(latest, 2, NOW, "staff"))
    counts = await group.make_pass(works=365)
    assert (dict(counts.numbers), counts.kept) == ({}, {"mp1": NEW_POLICY})


async def test_works_stay_while_a_regrade_is_open(group: OldClass, store: Store, course: str) -> None:
    await group.publish()
    ready = Regrade("r" * 24, course, "mp1", RegradeOrder(Select.ALL), {}, "", NOW, state=RegradeState.READY)
    assert await store.grades.regrades.add(replace(ready, id=f"{course}-r"))
    assert (await group.make_pass(works=365)).kept == {"mp1": REGRADE}


async def test_works_on_which_a_penalty_depends_stay(store: Store, course: str) -> None:
    group = OldClass(store, course)
    attempts = {"total": 1, "past_limit": "penalty", "penalty_percent": 10}
    await group.prepare(["ada", "bob"], {**BEST, "policy": {**BEST["policy"], "attempts": attempts}})
    await group.hand_in_old(
        HandIn("ada", BEFORE_DUE, score="1"),
        HandIn("ada", BEFORE_DUE + timedelta(hours=1), score="9", number=2),
        HandIn("bob", BEFORE_DUE, score="9"),
        HandIn("bob", BEFORE_DUE + timedelta(hours=1), score="1", number=2),
    )
    await group.publish()
    assert dict((await group.make_pass(works=365)).numbers) == {"submissions": 1, "runs": 1, "jobs": 1}
    assert await store.submissions.get(course, group.submission("ada", 1))
    assert await store.submissions.get(course, group.submission("bob", 2)) is None


async def test_newer_works_and_works_that_wait_stay(group: OldClass, store: Store, course: str) -> None:
    await group.publish()
    await group.hand_in(HandIn("ada", BEFORE_DUE, outcome=None, number=4))
    await group.hand_in_old(HandIn("bob", BEFORE_DUE, score="1", number=3))  # after the publication
    assert dict((await group.make_pass(works=365)).numbers)["submissions"] == 3
    assert await store.submissions.get(course, group.submission("ada", 4))
    assert await store.submissions.get(course, group.submission("bob", 3))
    assert dict((await group.make_pass(works=365, later=timedelta(days=300))).numbers) == {}


async def test_a_run_stays_with_all_its_works_if_a_grade_needs_one(store: Store, course: str) -> None:
    group = OldClass(store, course)
    await group.prepare(["ada", "bob"], BEST)
    await group.hand_in_old(HandIn("ada", BEFORE_DUE, score="3"), HandIn("ada", BEFORE_DUE, score="9", number=2))
    again = run_of(course, "again")
    first, second = HandIn("ada", BEFORE_DUE, score="2"), HandIn("ada", BEFORE_DUE, score="8", number=2)
    await group.grade([first, second], run=again)
    await group.publish()
    assert dict((await group.make_pass(works=365)).numbers) == {}
    assert await store.runs.get(run_of(course, "ada-1"))


def acting(number: int, act: Callable[[], Awaitable[object]]) -> Turn:
    """Return a turn that acts before a batch."""
    turns = count(1)

    async def turn() -> None:
        if next(turns) == number:
            await act()

    return turn


async def test_a_work_that_a_student_chooses_in_mid_pass_stays(group: OldClass, store: Store, course: str) -> None:
    await group.publish()
    chosen = group.submission("ada", 1)
    turn = acting(2, lambda: store.grades.choices.put(course, "mp1", "ada", chosen))
    assert dict((await group.make_pass(works=365, turn=turn)).numbers)["submissions"] == 2
    assert await store.submissions.get(course, chosen)
    assert await store.runs.get(run_of(course, "ada-1"))


async def test_works_of_a_version_that_is_published_in_mid_pass_stay(
    group: OldClass, store: Store, course: str
) -> None:
    await group.hand_in_old(HandIn("ada", BEFORE_DUE + timedelta(hours=1), score="1", number=4))
    await group.publish()
    latest = AssignmentSettings.model_validate({**BEST, "policy": {**BEST["policy"], "counts": "latest"}})

    async def publish() -> None:
        assert await store.assignment_settings.add(course, "mp1", SettingsVersion(latest, 2, NOW, "staff"))
        order = PublishOrder(based_on=1, by="staff")
        await GradeChanges(store.grades.books, group.reads).publish_draft(course, "mp1", order)

    await group.make_pass(works=365, turn=acting(2, publish))
    assert await store.submissions.get(course, group.submission("ada", 4))
    assert await store.submissions.get(course, group.submission("ada", 2))  # version 1 refers to it


async def test_a_pass_leaves_works_while_people_decide_all_the_time(
    group: OldClass, store: Store, database: Database, course: str
) -> None:
    await group.publish()
    chosen = cycle([group.submission("ada", 1), group.submission("ada", 3)])

    async def turn() -> None:
        await store.grades.choices.put(course, "mp1", "ada", next(chosen))

    assert (await group.make_pass(works=365, turn=turn)).kept == {"mp1": BUSY}
    assert (await left(database, course))["submission"] == 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("rules", "rules of"),
        ("lease", "another process holds the lease"),
        ("clock", "the clock of this host"),
        (None, None),
    ],
    ids=["rules", "lease", "clock", "none"],
)
async def test_a_pass_stops_when_what_it_relies_on_changes(
    group: OldClass, store: Store, database: Database, course: str, change: str | None, reason: str | None
) -> None:
    await group.publish()
    settings, wrong = RetentionSettings(works=1), timedelta(days=400) if change == "clock" else timedelta()

    async def clock() -> datetime:
        return await store.clock() - wrong

    steps = retention_steps(settings, store, course)
    choose = steps.old.works.choose

    async def chosen(*about: Any) -> Chosen:
        """Change what the pass relies on after the works are chosen."""
        if change == "rules":
            await store.retention.put_rules(course, CourseRules(works="keep"))
        if change == "lease":
            await store.leases.release(LEASE, course)
            assert await store.leases.acquire(LEASE, "another", timedelta(minutes=1))
        before = about[2] + timedelta(days=2)
        return await choose(about[0], about[1], before, about[3])

    steps = replace(
        steps,
        clock_of_store=clock,
        leases=store.leases,
        courses=cast(Any, NoCourses()),
        old=replace(steps.old, works=cast(Any, Choosing(steps.old.works, chosen))),
    )
    await store.retention.order(course, Pass(token_hex(12), is_dry=False, ordered_at=NOW))
    try:
        if reason:
            with pytest.raises(PassEndedError, match=reason):
                await steps.step()
        else:
            await steps.step()
    finally:
        for holder in (course, "another"):
            await store.leases.release(LEASE, holder)
    assert (await left(database, course))["submission"] == (5 if change else 2)
    assert ((await store.retention.get(course)).ordered is not None) is bool(change)


@dataclass(frozen=True)
class Choosing:
    """The choice of works of a store, with another function that chooses."""

    works: WorkChoices
    choose: Callable[..., Awaitable[Chosen]]

    async def is_current(self, course: str, assignment: str, chosen: Chosen) -> bool:
        return await self.works.is_current(course, assignment, chosen)

    async def referred(self, course: str, assignment: str) -> Referred:
        return await self.works.referred(course, assignment)


class NoCourses:
    """A list without courses, so that only ordered passes are made."""

    async def all(self) -> list[Any]:
        return []


@pytest.mark.parametrize("point", POINTS, ids=str)
async def test_an_interrupted_pass_is_taken_on(
    group: OldClass, database: Database, course: str, crash: Callable[[Point], object], point: Point
) -> None:
    await group.publish()
    crash(point)
    with pytest.raises(CrashPointError):
        await group.make_pass(works=365)
    await group.make_pass(works=365)
    assert set((await left(database, course)).values()) == {2}
    assert await database["removal"].count_documents({"course": course, "is_open": True}) == 0


@pytest.mark.usefixtures("group")
async def test_a_run_that_runs_again_meanwhile_stays(store: Store, database: Database, course: str) -> None:
    (run,) = [
        each for each in await store.removals.old_runs(course, "mp1", NOW + LATER) if each.id == run_of(course, "ada-1")
    ]
    await database["grading_run"].update_one(
        {"_id": ObjectId(run.id)}, {"$set": {"round": 2, "state": "students_grading"}}
    )
    assert await store.removals.remove_runs(course, [run], NOW) == []
    assert (await left(database, course))["grading_job"] == 5
    assert await store.removals.noted(run.id, course) is None


async def test_logs_of_works_that_do_not_count_go(group: OldClass, store: Store, course: str) -> None:
    await group.publish()
    assert dict((await group.make_pass(logs=30, is_dry=True)).numbers) == {"logs": 3}
    assert dict((await group.make_pass(logs=30)).numbers) == {"logs": 3}
    for name, is_kept in (("ada-1", False), ("ada-2", True)):
        (job,) = await store.jobs.of_run(run_of(course, name))
        kept = await store.logs.get(job.id, job.execution_id, generation=1)
        assert (kept is not None) is is_kept
        assert (await store.removals.log_removed_at(job.id, 1) is None) is is_kept
    assert dict((await group.make_pass(logs=30)).numbers) == {}


async def test_runs_of_discarded_regrades_go(group: OldClass, store: Store, database: Database, course: str) -> None:
    discarded = Regrade(
        f"{course}-r", course, "mp1", RegradeOrder(Select.ALL), {}, "", NOW, state=RegradeState.DISCARDED
    )
    regrade = replace(discarded, plans=("p",), discarded_at=NOW)
    part = Part(regrade.id, "p", 0, PartKind.NEW, (Item("s", {}, "j", "e"),))
    assert await store.grades.regrades.add(regrade)
    await store.grades.regrades.put_parts([part])
    await group.graded(HandIn("ada", BEFORE_DUE, Outcome.SUCCEEDED, "1"), run=part.run_id, regrade=regrade.id)
    assert dict((await group.make_pass(regrades=30, later=timedelta(days=29))).numbers) == {}
    assert dict((await group.make_pass(regrades=30)).numbers) == {"runs": 1, "jobs": 1}
    assert await store.runs.get(part.run_id) is None
    assert (await left(database, course))["work_result"] == 5
    assert await store.grades.regrades.parts(regrade) == []
    assert await store.grades.regrades.get(course, regrade.id)


@pytest.mark.usefixtures("group")
async def test_the_bytes_of_results_files_go_after_their_last_report(
    store: Store, database: Database, course: str
) -> None:
    runs = await store.removals.old_runs(course, "mp1", NOW + LATER)
    names = ("ada-1", "ada-3", "bob-2")
    again = OriginalFile.of("results.json", f"{course} bob 2".encode())
    began = datetime.now(UTC)
    gone = [run for run in runs if run.id in [run_of(course, name) for name in names]]
    assert len(await store.removals.remove_runs(course, gone, NOW)) == len(names)

    await store.reports.sweep_files(began)
    assert await database["report_file"].count_documents({"unused_since": {"$gte": began}}) == len(names)
    await store.reports.put_files([again])  # a recorder has it again
    assert await store.reports.sweep_files(datetime.now(UTC)) == len(names) - 1
    assert await store.reports.file(again.sha256) == unpacked(again.compressed())
    assert await store.reports.file(OriginalFile.of("", f"{course} ada 1".encode()).sha256) is None


async def test_deliveries_go_without_their_run_and_tokens_after_their_end(
    group: OldClass, store: Store, database: Database, course: str
) -> None:
    run = run_of(course, "ada-1")

    def delivery(name: str, state: DeliveryState, run_id: str | None = None, *, hook: str = "h") -> Delivery:
        own = Delivery(f"{course}-{name}", course, hook, "mp1", name, NOW, state, None)
        return replace(own, run_id=run_id, due_at=NOW if state is DeliveryState.RECEIVED else None)

    await store.deliveries.insert_all(
        [
            delivery("kept", DeliveryState.ACCEPTED, run),
            delivery("gone", DeliveryState.ACCEPTED, "f" * 24),
            delivery("refused", DeliveryState.IGNORED),
            delivery("waits", DeliveryState.RECEIVED),
            delivery("upload", DeliveryState.SUPERSEDED, hook="@uploads/mp1"),
        ]
    )

    def token(name: str, **more: Any) -> AccessToken:
        return AccessToken(f"{course}-{name}", TokenKind.STUDENT, "d", NOW, name=name, course=course, **more)

    await store.access_tokens.add_all([token("valid"), token("revoked", revoked_at=NOW), token("over", expires_at=NOW)])
    assert dict((await group.make_pass(deliveries=30, tokens=30, is_dry=True)).numbers) == {
        "deliveries": 2,
        "tokens": 2,
    }
    assert dict((await group.make_pass(deliveries=30, tokens=30)).numbers) == {"deliveries": 2, "tokens": 2}
    found = await database["hook_delivery"].find({"course": course}).to_list()
    assert {each["_id"].removeprefix(f"{course}-") for each in found} == {"kept", "waits", "upload"}
    assert [each["name"] for each in await database["access_token"].find({"course": course}).to_list()] == ["valid"]


async def test_an_outcome_of_a_removed_job_leaves_nothing(store: Store, database: Database, course: str) -> None:
    class Publisher:
        async def publish(self, *_: object, **__: object) -> None:
            return

    parts = (store.jobs, store.logs, store.graders, cast(Any, Publisher()), RetryPolicy(), timedelta(minutes=1))
    recorder = Recorder(*parts, store.reports)
    job, execution = token_hex(12), token_hex(12)
    reported = Reported(report=REPORT, files=[OriginalFile.of("results.json", course.encode())])
    late = JobFinished(
        job_id=job,
        run_id=token_hex(12),
        course=course,
        generation=1,
        execution_id=execution,
        grader_id="g1",
        started_at=NOW,
        finished_at=NOW,
        outcome=Outcome.SUCCEEDED,
        results=[StageResult(success=True, state={"ExitCode": 0}, reported=reported).entry()],
        stdout="x" * (MAX_WITH_OUTCOME + 1),
    )
    await recorder.record([late])
    for name in ("job_report", "job_outcome"):
        assert await database[name].count_documents({"grading_job_id": job}) == 0
    assert await store.logs.get(job, execution) is None

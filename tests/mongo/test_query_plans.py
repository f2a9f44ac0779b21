"""The questions that services ask often are answered by an index, to its last condition.

A store reads all documents that an index leaves, so a condition that the index does not have makes a question as
expensive as the history of a course, or as all graders that ever joined. The suite looks at plans, not at times.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest
from harness import Place, stage
from pymongo import AsyncMongoClient, monitoring

from broadway.domain.job import Job, JobClass, Phase
from broadway.domain.results_of_work import Among
from broadway.domain.run import Run, RunState, plan_jobs
from broadway.mongo.callback_deliveries import CallbackDeliveries
from broadway.mongo.callbacks import CallbackEvents
from broadway.mongo.deliveries import Deliveries
from broadway.mongo.extensions import Extensions, LateDayClaimStore
from broadway.mongo.graded_works import GradedWorks
from broadway.mongo.graders import Graders
from broadway.mongo.jobs import Jobs
from broadway.mongo.outcomes import Outcomes
from broadway.mongo.progress import Progress
from broadway.mongo.runs import Runs
from broadway.mongo.submissions import SubmissionStore
from broadway.mongo.work_results import WorkResults

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
READS = ("find", "count", "aggregate", "distinct")
COMPARED = {"$eq"}  # operators that leave one key of an index


class Commands(monitoring.CommandListener):
    """The read commands that a client has sent."""

    def __init__(self) -> None:
        self.seen: list[Mapping[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in READS:
            self.seen.append(event.command)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to record."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to record."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Collections whose questions are recorded, and a job and a run to ask about."""

    jobs: Jobs
    runs: Runs
    graders: Graders
    works: GradedWorks
    deliveries: Deliveries
    extensions: Extensions
    claims: LateDayClaimStore
    events: CallbackEvents
    callbacks: CallbackDeliveries
    progress: Progress
    job: Job
    run: Run


@pytest.fixture(scope="module")
async def recorded(shared_place: Place) -> AsyncIterator[tuple[Asked, Commands, AsyncMongoClient[dict[str, Any]]]]:
    commands = Commands()
    async with AsyncExitStack() as stack:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            shared_place.mongodb_dsn, tz_aware=True, event_listeners=[commands]
        )
        await stack.enter_async_context(client)
        main = client[f"{shared_place.name}_plans"]
        results = WorkResults(main["work_result"], main["submission"])
        outcomes = Outcomes(main["job_outcome"])
        jobs, progress = Jobs(main["grading_job"], outcomes, results), Progress(main["grading_job"], outcomes)
        runs = Runs(main["grading_run"], main["run_students"])
        graders = Graders(main["worker_node"])
        works = GradedWorks(main["submission"], results, main["grading_job"])
        deliveries, claims = Deliveries(main["hook_delivery"]), LateDayClaimStore(main["late_day_claim"])
        extensions = Extensions(main["extension"])
        submissions = SubmissionStore(main["submission"])
        events = CallbackEvents(main["callback_event"], main["callback_endpoint"])
        callbacks = CallbackDeliveries(main["callback_delivery"])
        graded = (results, submissions, deliveries, claims, extensions)
        for collection in (jobs, runs, graders, *graded, events, callbacks):
            await collection.ensure_indexes()
        run = Run(
            token_hex(12), "cs101", "mp1", RunState.STUDENTS, NOW, {"student_pipeline": [stage()]}, [{"STUDENT": "s"}]
        )
        planned = plan_jobs(run, Phase.STUDENTS, NOW)
        await runs.insert(run)
        await jobs.insert(planned)
        asked = Asked(
            jobs, runs, graders, works, deliveries, extensions, claims, events, callbacks, progress, planned[0].job, run
        )
        yield asked, commands, client


QUESTIONS: dict[str, Callable[[Asked], Awaitable[object]]] = {
    "the length of a queue": lambda a: a.jobs.count_waiting(a.run.course),
    "the position of a roster's job": lambda a: a.jobs.position(replace(a.job, job_class=JobClass.BULK)),
    "the position of a single job": lambda a: a.jobs.position(replace(a.job, job_class=JobClass.INTERACTIVE)),
    "the pace of a course": lambda a: a.jobs.pace(a.run.course, NOW),
    "the line of a course": lambda a: a.jobs.waiting_in_course(a.run.course),
    "the line of a run": lambda a: a.jobs.waiting_in_run(a.run.id),
    "jobs by id": lambda a: a.jobs.get_many([a.job.id]),
    "the backlog of a course": lambda a: a.jobs.count_backlog(a.run.course),
    "queued jobs": lambda a: a.jobs.queued(a.run.course, JobClass.BULK, limit=9),
    "queued jobs of other runs": lambda a: a.jobs.queued(a.run.course, JobClass.BULK, limit=9, unless_of=[a.run.id]),
    "queued jobs, counted": lambda a: a.jobs.count_queued(a.run.course, JobClass.BULK, unless_of=[a.run.id]),
    "queued jobs of a run": lambda a: a.jobs.queued_of_run(a.run.id, Phase.STUDENTS),
    "waiting jobs of a pool": lambda a: a.jobs.are_any_waiting("default"),
    "the open jobs of a run": lambda a: a.progress.of_run_again(a.run.id, (), frozenset()),
    "the uploads of a class": lambda a: a.works.receipts(a.run.course, "mp1"),
    "the uploads of a class since a time": lambda a: a.works.receipts(a.run.course, "mp1", Among(since=NOW)),
    "the results of a class": lambda a: a.works.results(a.run.course, "mp1"),
    "the results of a class since a time": lambda a: a.works.results(a.run.course, "mp1", Among(since=NOW)),
    "the results of a student": lambda a: a.works.results(a.run.course, "mp1", Among(("ada",))),
    "the uploads of a part of a class": lambda a: a.works.receipts(a.run.course, "mp1", Among(cuts=("m",))),
    "the results of a part of a class": lambda a: a.works.results(a.run.course, "mp1", Among(cuts=("m", "x"))),
    "open jobs of a course": lambda a: a.works.waiting(a.run.course, "mp1"),
    "the jobs of several runs": lambda a: a.jobs.of_runs([a.run.id]),
    "the deliveries of a student": lambda a: a.deliveries.latest_of_student(a.run.course, "mp1", "ada", limit=9),
    "the extensions of an assignment": lambda a: a.extensions.of_assignment(a.run.course, "mp1"),
    "the late days of a class": lambda a: a.claims.of_assignment(a.run.course, "mp1"),
    "the late days of a student": lambda a: a.claims.of_student(a.run.course, "mp1", "ada"),
    "a run": lambda a: a.runs.summary(a.run.id),
    "runs in the outbox": lambda a: a.runs.unpublished(NOW, limit=9),
    "live graders": lambda a: a.graders.alive(),
    "a grader by its secret": lambda a: a.graders.of_secret("secret"),
    "events that are due": lambda a: a.events.due(NOW, limit=9),
    "endpoints with deliveries that are due": lambda a: a.callbacks.due_endpoints(NOW),
    "the next delivery to an endpoint": lambda a: a.callbacks.take("e1", NOW, most=4, lease="l", until=NOW),
    "deliveries to an endpoint": lambda a: a.callbacks.latest("e1", before=None, limit=9),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_an_index_answers_to_the_last_condition(
    recorded: tuple[Asked, Commands, AsyncMongoClient[dict[str, Any]]], question: str
) -> None:
    asked, commands, client = recorded
    commands.seen.clear()

    await QUESTIONS[question](asked)

    seen = list(commands.seen)
    assert seen
    assert [problem for command in seen if (problem := await _problem(client, command))] == []


async def test_an_open_phase_is_found_by_one_job(
    recorded: tuple[Asked, Commands, AsyncMongoClient[dict[str, Any]]],
) -> None:
    """The first question may read all open jobs, the later ones read the job that the first one found."""
    asked, commands, _ = recorded
    await asked.jobs.is_phase_open(asked.run.id, Phase.STUDENTS)
    commands.seen.clear()

    assert await asked.jobs.is_phase_open(asked.run.id, Phase.STUDENTS)

    assert [list(command["filter"]) for command in commands.seen] == [["_id"]]


async def test_lists_of_runs_ask_for_recent_ones_first(
    recorded: tuple[Asked, Commands, AsyncMongoClient[dict[str, Any]]],
) -> None:
    asked, commands, client = recorded
    recent = replace(asked.run, id=token_hex(12), started_at=datetime.now(UTC) - timedelta(minutes=1))
    await asked.runs.insert(recent)
    commands.seen.clear()

    found = await asked.runs.of_assignments([f"{recent.course}/{recent.assignment}"], before=None, limit=1)

    assert [run.id for run in found] == [recent.id]
    assert [problem for command in commands.seen if (problem := await _problem(client, command))] == []


async def _problem(client: AsyncMongoClient[dict[str, Any]], command: Mapping[str, Any]) -> str:
    """Return why a command may read more than what it asks for; empty if it does not."""
    conditions = dict(_conditions(command))
    kinds = ("find", "count", "aggregate", "distinct", "filter", "query", "pipeline", "key", "cursor", "sort", "limit")
    plain = {key: value for key, value in command.items() if key in kinds}
    plan = await client[command["$db"]].command({"explain": plain, "verbosity": "queryPlanner"})
    keys = _key_pattern(plan)
    if keys is None:
        return f"no index for {conditions}"
    used = list(keys)[: len(conditions)]
    if set(used) != set(conditions):
        return f"the index on {list(keys)} has not all of {conditions}"
    loose = [key for key in used[:-1] if not _is_one(conditions[key])]
    return f"{loose} of {conditions} leave several keys before the last one" if loose else ""


def _conditions(command: Mapping[str, Any]) -> Mapping[str, Any]:
    if "pipeline" in command:
        first: Mapping[str, Any] = command["pipeline"][0]["$match"]
        return first
    found: Mapping[str, Any] = command.get("filter", command.get("query", {}))
    return found


def _is_one(condition: object) -> bool:
    return not isinstance(condition, dict) or condition.keys() <= COMPARED


def _key_pattern(plan: object) -> Mapping[str, Any] | None:
    """Return the keys of the index in a plan; None if the plan reads the whole collection."""
    if isinstance(plan, list):
        return next((keys for each in plan if (keys := _key_pattern(each)) is not None), None)
    if not isinstance(plan, dict):
        return None
    if plan.get("stage") == "IXSCAN" and "keyPattern" in plan:
        pattern: Mapping[str, Any] = plan["keyPattern"]
        return pattern
    return next((keys for each in plan.values() if (keys := _key_pattern(each)) is not None), None)

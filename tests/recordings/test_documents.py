"""Documents of earlier versions, read by the store's own methods."""

from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

from harness import token_of
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from recordings.recording import Recording, of

from broadway.domain.marks import Marks
from broadway.domain.report import Source, Visibility
from broadway.domain.webhook import Quota
from broadway.mongo.client import Answers
from broadway.mongo.store import Store

Documents = list[dict[str, Any]]
EVERY = (
    *("assignment_config", "course", "dead_letter", "grading_job", "grading_run", "hook", "hook_delivery"),
    *("hook_quota", "job_log", "roster", "service_lease", "service_secret", "worker_node", "audit", "pool"),
    *("assignment_settings", "submission", "blob", "stored_bytes", "job_outcome", "job_report", "report_file"),
    *("artifact", "work_result", "run_students", "access_token", "page_session"),
    *("extension", "late_day_claim", "chosen_submission", "grade_adjustment", "regrade", "regrade_part"),
    *("grade_entries", "grade_book", "grade_book_published"),
    *("callback_endpoint", "callback_event", "callback_delivery", "migration"),
    *("removal", "retention", "student_deletion"),
)


def test_every_collection_was_recorded(latest: Recording) -> None:
    assert {entry["collection"] for entry in latest.documents} == set(EVERY)


class Asked(AsyncDatabase[dict[str, Any]]):
    """A database that notes the names of the collections for which it is asked."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(AsyncMongoClient(connect=False), "unused")
        self._names = names

    def __getitem__(self, name: str) -> Any:
        self._names.add(name)
        return super().__getitem__(name)


def test_every_collection_of_the_store_is_to_be_recorded() -> None:
    names: set[str] = set()
    Store.of(Asked(names), Asked(names), Answers())
    assert names == set(EVERY)


async def test_courses_and_their_tokens_are_read(recording: Recording, store: Store) -> None:
    read = {course.id: course for course in await store.courses.all()}
    for document in of(recording, "course"):
        course = read[document["_id"]]
        assert course.admits(token_of(course.id))
        assert (course.weight, course.concurrency, course.pool) == tuple(
            document[key] for key in ("weight", "concurrency", "pool")
        )


async def test_assignments_and_rosters_are_read(recording: Recording, store: Store) -> None:
    for document in of(recording, "assignment_config"):
        course, _, assignment = document.pop("_id").partition("/")
        assert await store.assignments.get(course, assignment) == document
    for document in of(recording, "roster"):
        course, _, assignment = document["_id"].partition("/")
        roster = await store.rosters.get(course, assignment)
        assert roster is not None
        for entry, recorded in zip(roster.students, document["students"], strict=True):
            read = entry.model_dump(mode="json")
            assert {name: read[name] for name in recorded} == recorded


async def test_runs_are_read(recording: Recording, store: Store) -> None:
    same = (
        *("config", "students_env", "pre_processing_env", "post_processing_env", "pool", "round", "success", "trigger"),
        *("started_at", "finished_at", "publish_at", "request_digest", "traceparent"),
    )
    for document in of(recording, "grading_run"):
        run = await store.runs.get(str(document["_id"]))
        assert run is not None
        shadow = "/@regrade" if document.get("regrade") else ""
        named = f"{run.course}/{run.assignment}{shadow}"
        assert (run.state.value, run.regrade, named) == (
            document["state"],
            document.get("regrade"),
            document["assignment_id"],
        )
        if isinstance(document["students_env"], dict):
            document["students_env"] = [env for chunk in chunks_of(recording, document) for env in chunk["envs"]]
        assert [getattr(run, name) for name in same] == [document[name] for name in same]


def chunks_of(recording: Recording, run: dict[str, Any]) -> Documents:
    """Return the chunks in which the environments of a large run's students are stored."""
    kept = run["students_env"]
    chunks = {chunk["_id"]: chunk for chunk in of(recording, "run_students")}
    return [chunks[f"{run['_id']}:{kept['token']}:{number}"] for number in range(kept["chunks"])]


async def test_jobs_are_read(recording: Recording, store: Store) -> None:
    same = (
        *("course", "assignment", "index", "pool", "generation", "round", "revision", "traceparent", "reason"),
        *("queued_at", "not_before", "dispatched_at", "started_at", "finished_at", "lease_expires_at"),
        *("execution_id", "outcome", "fault_phase", "success", "results"),
    )
    phases = {"pre processing job": "pre-processing", "student grading job": "students"}
    for document in joined(recording):
        identity = str(document["_id"])
        job = await store.jobs.get(identity)
        assert job is not None
        assert (job.state, job.job_class, job.run_id) == tuple(
            document[key] for key in ("state", "class", "grading_run_id")
        )
        assert job.phase == phases.get(document["type"], "post-processing")
        assert job.grader_id == document["worker_id"]
        assert [getattr(job, name) for name in same] == [document[name] for name in same]
        for attempt, recorded in zip(job.attempts, document["attempts"], strict=True):
            if "marks" in recorded:
                assert attempt.marks == marks_in(recorded.pop("marks"))
            read = asdict(attempt)
            assert {name: read[name] for name in recorded} == recorded
        assert await store.jobs.stages([identity]) == {identity: document["stages"]}


def marks_in(document: dict[str, Any]) -> Marks:
    """Return the marks in a document, which is empty if the attempt has no report."""
    if not document:
        return Marks()
    score, most = (None if document[name] is None else Decimal(document[name]) for name in ("score", "max"))
    visibilities = tuple(map(Visibility, document["visibilities"]))
    return Marks(Source(document["source"]), score, most, document["gradable"], visibilities)


def joined(recording: Recording) -> Documents:
    """Return the documents of jobs, those of finished jobs with the values in the documents of their outcomes."""
    outcomes = {(o["grading_job_id"], o["next_generation"], o["finished_at"]): o for o in of(recording, "job_outcome")}
    same = ("reason", "fault_phase", "results")
    jobs = of(recording, "grading_job")
    for job in jobs:
        if outcome := outcomes.get((str(job["_id"]), job["generation"], job["finished_at"])):
            job |= {name: outcome[name] for name in same}
            job |= {name: outcome[name] or job[name] for name in ("started_at", "execution_id", "worker_id")}
            attempts = {each["execution_id"]: each for each in [*job["attempts"], *outcome["attempts"]]}
            job["attempts"] = list(attempts.values())
    return jobs


async def test_logs_are_read(recording: Recording, store: Store) -> None:
    with_outcomes = [outcome for outcome in of(recording, "job_outcome") if "stdout" in outcome]
    for document in [*of(recording, "job_log"), *with_outcomes]:
        generation = document.get("generation")
        log = await store.logs.get(document["grading_job_id"], document["execution_id"], generation=generation)
        assert log is not None
        assert (log.stdout, log.stderr) == (document["stdout"], document["stderr"])


async def test_graders_are_read(recording: Recording, store: Store) -> None:
    documents = of(recording, "worker_node")
    orders = await store.graders.orders([document["_id"] for document in documents])
    for document in documents:
        grader = await store.graders.get(document["_id"])
        assert grader is not None
        assert (grader.hostname, grader.alive) == (document.get("worker_hostname", ""), document["alive"])
        if order := document.get("order"):
            assert orders[grader.id] == grader.order
            assert {key: getattr(grader.order, key) for key in order} == order
    assert {grader.id for grader in await store.graders.alive()} == {d["_id"] for d in documents if d["alive"]}


async def test_hooks_and_deliveries_are_read(recording: Recording, store: Store) -> None:
    for document in of(recording, "hook"):
        hook = await store.hooks.get(document["course"], document["name"])
        assert hook is not None
        recorded = {key: value for key, value in document.items() if key not in ("_id", "course", "name")}
        assert hook.config.model_dump(mode="json").items() >= recorded.items()
    same = ("course", "hook", "assignment", "delivery_id", "received_at", "student", "run_id", "reason", "body")
    for document in of(recording, "hook_delivery"):
        delivery = await store.deliveries.get(document["_id"])
        assert delivery is not None
        assert delivery.state.value == document["state"]
        assert [getattr(delivery, name) for name in same] == [document[name] for name in same]


async def test_artifacts_are_read(recording: Recording, store: Store) -> None:
    for document in of(recording, "artifact"):
        kept = await store.artifacts.get(*(document[key] for key in ("job", "generation", "execution", "grader")))
        assert kept is not None
        files = [(file.path, file.stage, file.sha256, file.size) for file in kept.files]
        assert files == [tuple(file[key] for key in ("path", "stage", "sha256", "size")) for file in document["files"]]


async def test_dead_letters_are_read(recording: Recording, store: Store) -> None:
    same = ("message_id", "queue", "subject", "reason", "count", "first_at", "last_at")
    for document in of(recording, "dead_letter"):
        letter = await store.dead_letters.get(document["_id"])
        assert letter is not None
        assert [getattr(letter, name) for name in same] == [document[name] for name in same]
        assert letter.body == bytes(document["body"])


async def test_quotas_keep_the_counted_submissions(recording: Recording, store: Store) -> None:
    quota = Quota(submissions=1, seconds=60)
    for document in of(recording, "hook_quota"):
        (counted,) = document["times"]
        at, until = counted["at"], counted["at"] + timedelta(seconds=60)
        assert await store.quotas.take(document["_id"], counted["submission"], quota, at) is None
        assert await store.quotas.take(document["_id"], "another", quota, at) == until
        assert await store.quotas.take(document["_id"], "another", quota, until) is None


async def test_secrets_stay_and_leases_belong_to_their_holders(recording: Recording, store: Store) -> None:
    for document in of(recording, "service_secret"):
        assert await store.secrets.get(document["_id"]) == bytes(document["value"])
    for document in of(recording, "service_lease"):
        name, minute = document["_id"], timedelta(minutes=1)
        assert await store.leases.acquire(name, document["holder"], minute)
        assert not await store.leases.acquire(name, "another", minute)


async def test_rules_and_notes_of_retention_and_receipts_of_deletions_are_read(
    recording: Recording, store: Store
) -> None:
    for document in of(recording, "retention"):
        state = await store.retention.get(document["_id"])
        assert state.rules.model_dump() == document["rules"]
        assert state.last_dry is not None
        assert state.last_dry.counts == document["last_dry"]["counts"]
    for document in of(recording, "removal"):
        noted = await store.removals.noted(document["_id"], document["course"])
        assert noted is not None
        assert (noted.kind, noted.at) == (document["kind"], document["at"])
    for document in of(recording, "student_deletion"):
        receipt = await store.student_erasure.deletions.latest(document["course"], document["pseudonym"])
        assert receipt is not None
        assert (receipt.id, receipt.digest, receipt.counts) == (document["_id"], document["digest"], document["counts"])

"""Documents of earlier versions, read by the store's own methods."""

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from harness import Place, token_of
from recordings.recording import Recording, restore, typed
from recordings.system import databases

from broadway.domain.webhook import Quota
from broadway.mongo.store import Store

Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]
Documents = list[dict[str, Any]]
EVERY = (
    *("assignment_config", "course", "dead_letter", "grading_job", "grading_run", "hook", "hook_delivery"),
    *("hook_quota", "job_log", "roster", "service_lease", "service_secret", "worker_node"),
)


@pytest.fixture(scope="session")
async def store(places: Places, recording: Recording) -> AsyncIterator[Store]:
    """A store with the documents of a recording, at which no service works."""
    async with places() as place:
        await restore(recording.documents, place.mongodb_dsn, databases(place))
        names = databases(place)
        async with Store.connect(place.mongodb_dsn, primary=names["primary"], logs=names["logs"]) as opened:
            yield opened


def of(recording: Recording, collection: str) -> Documents:
    return [typed(entry["document"]) for entry in recording.documents if entry["collection"] == collection]


def test_every_collection_was_recorded(latest: Recording) -> None:
    assert {entry["collection"] for entry in latest.documents} == set(EVERY)


async def test_courses_and_their_tokens(recording: Recording, store: Store) -> None:
    read = {course.id: course for course in await store.courses.all()}
    for document in of(recording, "course"):
        course = read[document["_id"]]
        assert course.admits(token_of(course.id))
        assert (course.weight, course.concurrency, course.pool) == tuple(
            document[key] for key in ("weight", "concurrency", "pool")
        )


async def test_assignments_and_rosters(recording: Recording, store: Store) -> None:
    for document in of(recording, "assignment_config"):
        course, _, assignment = document.pop("_id").partition("/")
        assert await store.assignments.get(course, assignment) == document
    for document in of(recording, "roster"):
        course, _, assignment = document["_id"].partition("/")
        roster = await store.rosters.get(course, assignment)
        assert roster is not None
        assert [entry.model_dump() for entry in roster.students] == document["students"]


async def test_runs(recording: Recording, store: Store) -> None:
    same = ("config", "students_env", "started_at", "finished_at", "success", "publish_at", "round", "trigger")
    for document in of(recording, "grading_run"):
        run = await store.runs.get(str(document["_id"]))
        assert run is not None
        assert (run.state.value, f"{run.course}/{run.assignment}") == (document["state"], document["assignment_id"])
        assert [getattr(run, name) for name in same] == [document[name] for name in same]


async def test_jobs(recording: Recording, store: Store) -> None:
    same = ("course", "pool", "generation", "round", "revision", "started_at", "finished_at", "results", "reason")
    for document in of(recording, "grading_job"):
        identity = str(document["_id"])
        job = await store.jobs.get(identity)
        assert job is not None
        assert (job.state.value, job.run_id) == (document["state"], document["grading_run_id"])
        assert (job.outcome and job.outcome.value) == document["outcome"]
        assert [getattr(job, name) for name in same] == [document[name] for name in same]
        told = [(a.execution_id, a.grader_id, a.started_at, a.ended_at, a.deadline) for a in job.attempts]
        keys = ("execution_id", "grader_id", "started_at", "ended_at", "deadline")
        assert told == [tuple(attempt[key] for key in keys) for attempt in document["attempts"]]
        assert await store.jobs.stages([identity]) == {identity: document["stages"]}


async def test_logs(recording: Recording, store: Store) -> None:
    for document in of(recording, "job_log"):
        log = await store.logs.get(document["grading_job_id"], document["execution_id"])
        assert log is not None
        assert (log.stdout, log.stderr) == (document["stdout"], document["stderr"])


async def test_graders(recording: Recording, store: Store) -> None:
    documents = of(recording, "worker_node")
    orders = await store.graders.orders([document["_id"] for document in documents])
    for document in documents:
        grader = await store.graders.get(document["_id"])
        assert grader is not None
        assert (grader.hostname, grader.alive) == (document.get("worker_hostname", ""), document["alive"])
        if wanted := document.get("order"):
            assert orders[grader.id] == grader.order
            assert {key: getattr(grader.order, key) for key in wanted} == wanted
    assert {grader.id for grader in await store.graders.alive()} == {d["_id"] for d in documents if d["alive"]}


async def test_hooks_and_deliveries(recording: Recording, store: Store) -> None:
    for document in of(recording, "hook"):
        hook = await store.hooks.get(document["course"], document["name"])
        assert hook is not None
        assert document.items() >= hook.config.model_dump(mode="json").items()
    same = ("course", "hook", "assignment", "delivery_id", "received_at", "student", "run_id", "reason", "body")
    for document in of(recording, "hook_delivery"):
        delivery = await store.deliveries.get(document["_id"])
        assert delivery is not None
        assert delivery.state.value == document["state"]
        assert [getattr(delivery, name) for name in same] == [document[name] for name in same]


async def test_dead_letters(recording: Recording, store: Store) -> None:
    same = ("message_id", "queue", "subject", "reason", "count", "first_at", "last_at")
    for document in of(recording, "dead_letter"):
        letter = await store.dead_letters.get(document["_id"])
        assert letter is not None
        assert [getattr(letter, name) for name in same] == [document[name] for name in same]
        assert letter.body == bytes(document["body"])


async def test_quotas_know_what_was_counted(recording: Recording, store: Store) -> None:
    quota = Quota(submissions=1, seconds=60)
    for document in of(recording, "hook_quota"):
        (counted,) = document["times"]
        at, until = counted["at"], counted["at"] + timedelta(seconds=60)
        assert await store.quotas.take(document["_id"], counted["submission"], quota, at) is None
        assert await store.quotas.take(document["_id"], "another", quota, at) == until
        assert await store.quotas.take(document["_id"], "another", quota, until) is None


async def test_secrets_stay_and_leases_are_their_holders(recording: Recording, store: Store) -> None:
    for document in of(recording, "service_secret"):
        assert await store.secrets.get(document["_id"]) == bytes(document["value"])
    for document in of(recording, "service_lease"):
        name, minute = document["_id"], timedelta(minutes=1)
        assert await store.leases.acquire(name, document["holder"], minute)
        assert not await store.leases.acquire(name, "another", minute)

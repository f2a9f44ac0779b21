"""A database that the original has written, opened unchanged: sections 13 and 16 of the reference.

The original was stopped in the middle of its work, and so lost all queued jobs.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from bson import ObjectId
from compat.protocol import (
    CLUSTER_TOKEN,
    FAILED,
    FINISHED,
    JOB_FAILED,
    NOBODY,
    NOT_FOUND_JOB,
    NOT_FOUND_RUN,
    PRE,
    QUEUED,
    STARTED,
    STUDENTS,
    SUCCEEDED,
    Poller,
    Server,
    bearer,
    data,
    is_refused,
    query_token_of,
)
from harness import IS_WHOLE, Client, Place, free_port, stage, token_of, until
from processes import QUICK_DISPATCHER, processes
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import CommandListener, CommandStartedEvent

from broadway.dispatcher.reconcile import LIMIT
from broadway.domain.job import JobClass, Phase
from broadway.domain.run import Run, RunState
from broadway.mongo.jobs import Jobs
from broadway.mongo.logs import Logs
from broadway.mongo.outcomes import Outcomes
from broadway.mongo.runs import Runs
from broadway.mongo.work_results import WorkResults

Document = dict[str, Any]
Database = AsyncDatabase[Document]
Contents = Mapping[str, Sequence[Document]]

NO_LOG = "grading job with the given ID not found or has not finished"
PRE_JOB, STUDENT_JOB, POST_JOB = "pre processing job", "student grading job", "post processing job"
PRIMARY = ("course", "assignment_config", "grading_run", "grading_job", "worker_node")
DIED: list[Document] = [{"result": "worker died while executing job"}]

# Local time without a zone, as the original wrote it.
_moments = (datetime(2021, 3, 1, 9, 30) + timedelta(milliseconds=n) for n in count())  # noqa: DTZ001


@dataclass
class Original:
    """The documents that the original has written, by collection."""

    documents: dict[str, list[Document]] = field(default_factory=lambda: {name: [] for name in (*PRIMARY, "job_log")})

    def write(self, collection: str, identity: Any, **fields: Any) -> Any:
        self.documents[collection].append({"_id": identity, **fields})
        return identity

    def course(self, name: str, *more: str) -> None:
        tokens, query_tokens = [token_of(name), "shared", *more], [query_token_of(name)]
        self.write("course", name, tokens=tokens, query_tokens=query_tokens)

    def assignment(self, name: str, **config: Any) -> None:
        keys = ("env", "student_pipeline", "pre_processing_pipeline", "post_processing_pipeline")
        self.write("assignment_config", name, **{key: config.get(key) for key in keys})

    def run(self, assignment: str, state: str, students: int, **more: Any) -> str:
        run: Document = {
            "state": state,
            "assignment_id": assignment,
            "started_at": next(_moments),
            "finished_at": next(_moments) if state in (FINISHED, FAILED) else None,
            "pre_processing_env": None,
            "post_processing_env": None,
            "students_env": [{"STUDENT_ID": f"s{n}"} for n in range(students)],
            "students_jobs_left": 0 if state == FINISHED else students,
            "success": {FINISHED: True, FAILED: False}.get(state),
        }
        return str(self.write("grading_run", ObjectId(), **run | more))

    def job(self, run_id: str, kind: str, *, success: bool | None = None, log: str | None = None, **more: Any) -> str:
        """Add a waiting job; with ``success``, add one that has ended, with a log unless its worker died."""
        identity, is_over = ObjectId(), success is not None
        env = {"GRADING_RUN_ID": run_id, "STUDENT_ID": "s0", "GRADING_JOB_ID": str(identity)}
        job: Document = {
            "type": kind,
            "grading_run_id": run_id,
            "worker_id": "host1" if is_over else None,
            "queued_at": next(_moments),
            "started_at": next(_moments) if is_over else None,
            "finished_at": next(_moments) if is_over else None,
            "results": [{"data": {"ExitCode": 0}, "killed": False, "success": success}] if is_over else None,
            "success": success,
            "stages": [{"image": "a", "env": {**env, "PART": part}} for part in (1, 2)],
            "students": None,
        }
        self.write("grading_job", identity, **job | more)
        if log is not None:
            self.write("job_log", ObjectId(), grading_job_id=str(identity), stdout=log, stderr="")
        return str(identity)

    def worker(self, name: str, **more: Any) -> None:
        worker = {"running_job_id": None, "last_seen": next(_moments), "worker_hostname": f"{name}.example"}
        worker |= {"jobs_processed": 7, "alive": False, "use_ws": False}
        self.write("worker_node", name, **worker | more)


@dataclass
class History:
    """Two courses and their runs: one complete, one failed, one lost half way, one half made, one waiting."""

    original: Original = field(default_factory=Original)

    def __post_init__(self) -> None:
        it = self.original
        for course in ("cs241", "cs101"):
            it.course(course)
        it.write("course", "cs225", tokens=[], query_tokens=[])
        it.assignment("cs241/mp1", env={"TERM": "fall"}, student_pipeline=[stage("exit", "0")])
        it.assignment("cs101/mp1", student_pipeline=[stage("exit", "1")], post_processing_pipeline=[])
        it.assignment("cs241/odd", student_pipeline=None)
        it.assignment("cs241/empty-stage", student_pipeline=[stage(), None])
        it.assignment("cs241/loose", **LOOSE)

        self.complete = it.run("cs241/mp1", FINISHED, 3, pre_processing_env={}, post_processing_env={"WHERE": [1, {}]})
        self.complete_jobs = {
            "pre": it.job(self.complete, PRE_JOB, success=True, log="prepared"),
            "passed": it.job(self.complete, STUDENT_JOB, success=True, log="2021-03-01T09:30:00Z passed\r\n"),
            "failed": it.job(self.complete, STUDENT_JOB, success=False, log=""),
            "died": it.job(self.complete, STUDENT_JOB, success=False, results=DIED),
            "post": it.job(self.complete, POST_JOB, success=True, log="uploaded"),
        }
        self.failed = it.run("cs241/mp1", FAILED, 2, pre_processing_env={})
        self.failed_job = it.job(self.failed, PRE_JOB, success=False, log="no")
        self.lost = it.run("cs241/mp1", STUDENTS, 3)
        self.lost_jobs = {
            "done": it.job(self.lost, STUDENT_JOB, success=True, log="in time"),
            "running": it.job(self.lost, STUDENT_JOB, started_at=next(_moments), worker_id="host1"),
            "queued": it.job(self.lost, STUDENT_JOB),
        }
        self.half_made = it.run("cs241/empty-stage", "ready to be started", 1, started_at=None)
        self.waiting = it.run("cs101/mp1", PRE, 1)
        self.waiting_job = it.job(self.waiting, PRE_JOB)
        it.worker("host1", alive=True, running_job_id=self.lost_jobs["running"])
        it.worker("host2", alive=True, use_ws=True)
        it.worker("host3")


LOOSE = {
    "env": {"LIST": [1, {"a": None}], "NULL": None, "TEXT": "</x>"},
    "pre_processing_pipeline": None,
    "post_processing_pipeline": [],
    "student_pipeline": [
        {"image": ""},
        {"image": "a", "timeout": 0, "memory": "plenty", "entrypoint": [], "env": {"A": 2**62, "B": [{"C": 0.5}]}},
        {"image": "a", "timeout": -1.5, "hostname": "", "cpuset_cpus": "", "networking": True, "logs": True},
    ],
}


async def insert(contents: Contents, primary: Database, logs: Database) -> None:
    for name, documents in contents.items():
        if documents:
            await (primary if name in PRIMARY else logs)[name].insert_many(documents)


@dataclass
class Switched(History):
    """The history, served by Broadway."""

    server: Server = field(init=False)
    primary: Database = field(init=False)
    logs: Database = field(init=False)

    async def get(self, path: str, course: str = "cs241") -> Any:
        return data(await self.server.client.get(path, token=token_of(course)))

    async def refuses(self, path: str, message: str, course: str = "cs241") -> bool:
        return is_refused(await self.server.client.get(path, token=token_of(course)), 400, message)

    async def contents(self) -> dict[str, dict[Any, Document]]:
        """Return all documents that must not change, by collection and id."""
        names = [name for name in (*PRIMARY, "job_log") if name not in ("course", "worker_node")]
        return {
            name: {d["_id"]: d for d in await (self.primary if name in PRIMARY else self.logs)[name].find().to_list()}
            for name in names
        }

    async def sweeps(self) -> None:
        """Return once the reconciler has swept all runs: it has advanced a new run that has no other driver."""
        run = Run(token_hex(12), "cs101", "mp1", RunState.READY, datetime.now(UTC), {"student_pipeline": [stage()]}, [])
        await Runs(self.primary["grading_run"], self.primary["run_students"]).insert(run)
        await until(lambda: self._is_over(run.id))
        await self.primary["grading_run"].delete_one({"_id": ObjectId(run.id)})

    async def _is_over(self, run_id: str) -> bool:
        return (await self.server.client.status("cs101", run_id))["state"] == FINISHED


@contextlib.asynccontextmanager
async def switched_over(place: Place, directory: Path, *, more: Contents | None = None) -> AsyncIterator[Switched]:
    """Run `python -m broadway.api` on the original's database, without a course config."""
    names, port = place.environment, free_port()
    flags = ["--token", CLUSTER_TOKEN, "--bind-addr", "127.0.0.1", "--bind-port", str(port), *QUICK_DISPATCHER]
    history = Switched()
    async with contextlib.AsyncExitStack() as stack:
        mongo = await stack.enter_async_context(AsyncMongoClient[Document](place.mongodb_dsn, tz_aware=True))
        history.primary = mongo[names["BROADWAY_MONGODB_PRIMARY"]]
        history.logs = mongo[names["BROADWAY_MONGODB_LOGS"]]
        await insert(history.original.documents, history.primary, history.logs)
        await insert(more or {}, history.primary, history.logs)
        started = await stack.enter_async_context(processes(directory, names))
        client = await stack.enter_async_context(Client.connect(f"http://127.0.0.1:{port}"))
        history.server = Server(client, port, flags, started)
        await history.server.start()
        yield history


@pytest.fixture(scope="module")
async def shared(
    places: Callable[[], AbstractAsyncContextManager[Place]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Switched]:
    async with places() as place, switched_over(place, tmp_path_factory.mktemp("switched")) as switched:
        yield switched


# Reading


async def test_assignments_come_back_as_they_were_stored(shared: Switched) -> None:
    for document in shared.original.documents["assignment_config"]:
        course, _, name = document["_id"].partition("/")
        config = {key: value for key, value in document.items() if key != "_id"}
        assert await shared.get(f"grading_config/{course}/{name}", course) == config


async def test_a_complete_run_has_its_state_and_those_of_its_jobs_in_order(shared: Switched) -> None:
    jobs = shared.complete_jobs

    status = await shared.get(f"grading_run_status/cs241/{shared.complete}")

    assert status == {
        "state": FINISHED,
        "pre_processing_job_state": {jobs["pre"]: SUCCEEDED},
        "post_processing_job_state": {jobs["post"]: SUCCEEDED},
        "student_jobs_state": {jobs["passed"]: SUCCEEDED, jobs["failed"]: JOB_FAILED, jobs["died"]: JOB_FAILED},
    }
    assert list(status["student_jobs_state"]) == [jobs["passed"], jobs["failed"], jobs["died"]]


async def test_incomplete_runs_have_their_states(shared: Switched) -> None:
    lost = shared.lost_jobs
    nothing: Document = {
        "pre_processing_job_state": None,
        "post_processing_job_state": None,
        "student_jobs_state": {},
    }

    assert await shared.get(f"grading_run_status/cs241/{shared.failed}") == nothing | {
        "state": FAILED,
        "pre_processing_job_state": {shared.failed_job: JOB_FAILED},
    }
    assert await shared.get(f"grading_run_status/cs241/{shared.lost}") == nothing | {
        "state": STUDENTS,
        "student_jobs_state": {lost["done"]: SUCCEEDED, lost["running"]: STARTED, lost["queued"]: QUEUED},
    }
    assert await shared.get(f"grading_run_status/cs241/{shared.half_made}") == nothing | {
        "state": "ready to be started"
    }
    assert await shared.get(f"grading_run_status/cs101/{shared.waiting}", "cs101") == nothing | {
        "state": PRE,
        "pre_processing_job_state": {shared.waiting_job: QUEUED},
    }


async def test_environments_are_lists_of_distinct_values(shared: Switched) -> None:
    def of(job_id: str) -> dict[str, list[Any]]:
        common = {"GRADING_RUN_ID": [shared.complete], "STUDENT_ID": ["s0"], "GRADING_JOB_ID": [job_id]}
        return {**common, "PART": [1, 2]}

    jobs = shared.complete_jobs

    assert await shared.get(f"grading_run_env/cs241/{shared.complete}") == {
        "pre_processing_env": {jobs["pre"]: of(jobs["pre"])},
        "post_processing_env": {jobs["post"]: of(jobs["post"])},
        "student_env": {jobs[name]: of(jobs[name]) for name in ("passed", "failed", "died")},
    }


async def test_jobs_that_left_a_log_show_it(shared: Switched) -> None:
    async def log(job_id: str) -> Any:
        return await shared.get(f"grading_job_log/cs241/{job_id}")

    assert await log(shared.complete_jobs["passed"]) == {"stdout": "2021-03-01T09:30:00Z passed\r\n", "stderr": ""}
    assert await log(shared.complete_jobs["failed"]) == {"stdout": "", "stderr": ""}
    assert await log(shared.lost_jobs["done"]) == {"stdout": "in time", "stderr": ""}
    for without in (shared.complete_jobs["died"], shared.lost_jobs["running"], shared.lost_jobs["queued"], NOBODY):
        assert await shared.refuses(f"grading_job_log/cs241/{without}", NO_LOG)


async def test_the_queue_of_the_original_is_gone(shared: Switched) -> None:
    assert await shared.get("queue/cs241/length") == {"length": 0}
    for name, job_id in [*shared.lost_jobs.items(), *shared.complete_jobs.items()]:
        gone = f"{job_id} has already passed through the queue"
        assert await shared.refuses(f"queue/cs241/{job_id}/position", gone), name
    assert await shared.refuses(f"queue/cs241/{NOBODY}/position", f"grading {NOT_FOUND_JOB}")


async def test_workers_of_the_original_are_listed_and_soon_found_dead(shared: Switched) -> None:
    async def are_dead() -> bool:
        nodes = (await shared.get("worker/cs101/all", "cs101"))["worker_nodes"]
        listed = [node for node in nodes if node["hostname"] in {f"host{n}.example" for n in (1, 2, 3)}]
        assert [node["jobs_processed"] for node in listed] == [7, 7, 7]
        return not any(node["alive"] or node["busy"] for node in listed)

    await until(are_dead)


async def test_its_graders_are_admitted_as_before_and_the_log_says_so(shared: Switched) -> None:
    pool = await shared.primary["pool"].find_one({"_id": "default"})
    assert pool is not None
    assert pool["original_graders"] is True
    assert "the original's host1, host2, host3" in pool["reason"]
    assert "pool admits graders without a secret" in shared.server.processes.log("api")
    await shared.server.poller("host9")


async def test_runs_jobs_and_logs_are_visible_to_their_own_course_only(shared: Switched) -> None:
    passed = shared.complete_jobs["passed"]

    for of_run in ("grading_run_status", "grading_run_env"):
        assert await shared.refuses(f"{of_run}/cs101/{shared.complete}", NOT_FOUND_RUN, "cs101")
    assert await shared.refuses(f"grading_job_log/cs101/{passed}", NO_LOG, "cs101")
    assert await shared.refuses(f"queue/cs101/{passed}/position", f"grading {NOT_FOUND_JOB}", "cs101")


async def test_v2_shows_old_runs_too(shared: Switched) -> None:
    run = await shared.server.client.describe("cs241", shared.complete)
    half_made = await shared.server.client.describe("cs241", shared.half_made)

    assert (run["state"], run["success"], len(run["jobs"])) == ("finished", True, 5)
    assert [job["outcome"] for job in run["jobs"]] == ["succeeded", "succeeded", "failed", "failed", "succeeded"]
    assert {job["grader"] for job in run["jobs"]} == {"host1"}
    assert half_made["started_at"].startswith(ObjectId(shared.half_made).generation_time.date().isoformat())


async def test_output_of_any_type_is_shown_as_text(shared: Switched) -> None:
    job_id = shared.original.job(shared.complete, POST_JOB, success=True)
    odd = {"_id": ObjectId(), "grading_job_id": job_id, "stdout": None, "stderr": ["a", 1]}
    (document,) = [d for d in shared.original.documents["grading_job"] if str(d["_id"]) == job_id]
    await shared.primary["grading_job"].insert_one({**document, "grading_run_id": shared.failed})
    await shared.logs["job_log"].insert_one(odd)

    assert await shared.get(f"grading_job_log/cs241/{job_id}") == {"stdout": "", "stderr": "['a', 1]"}

    await shared.primary["grading_job"].delete_one({"_id": document["_id"]})
    await shared.logs["job_log"].delete_one({"_id": odd["_id"]})


# Tokens


async def test_tokens_are_hashed_in_the_store_and_stay_valid(shared: Switched) -> None:
    stored = {d["_id"]: d for d in await shared.primary["course"].find().to_list()}

    assert set(stored["cs241"]) == {"_id", "tokens", "query_tokens"}
    assert [len(stored["cs241"][key]) for key in ("tokens", "query_tokens")] == [2, 1]
    assert stored["cs225"] == {"_id": "cs225", "tokens": [], "query_tokens": []}
    kept = [token for d in stored.values() for key in ("tokens", "query_tokens") for token in d[key]]
    assert len(kept) == len(set(kept)) == 6  # the shared token has a different salt in each course
    assert all(token.startswith("sha256$") for token in kept)
    for course, run_id in (("cs241", shared.lost), ("cs101", shared.waiting)):
        for token in (token_of(course), query_token_of(course), "shared"):
            assert data(await shared.server.client.get(f"grading_run_status/{course}/{run_id}", token=token))


async def test_a_hash_is_no_token(shared: Switched) -> None:
    course = await shared.primary["course"].find_one({"_id": "cs241"})
    assert course
    for kept in course["tokens"] + course["query_tokens"]:
        for stolen in (kept, kept.rpartition("$")[2]):
            answer = await shared.server.client.get(f"grading_run_status/cs241/{shared.complete}", token=stolen)
            assert is_refused(answer, 401, "invalid token")


# Going on


async def test_new_runs_are_graded_beside_the_old_ones(shared: Switched) -> None:
    run_id = await shared.server.client.submit("cs241", "mp1", students=1)
    poller = Poller(shared.server, "new-host")
    data(await poller.register())

    job = await until(lambda: _taken(poller))
    data(await poller.report(job["grading_job_id"]))

    assert job["stages"][0]["env"]["TERM"] == "fall"
    assert (await shared.get(f"grading_run_status/cs241/{run_id}"))["state"] == FINISHED
    log = await shared.get(f"grading_job_log/cs241/{job['grading_job_id']}")
    assert log["stdout"] == f"output of {job['grading_job_id']}"
    assert (await shared.get(f"grading_run_status/cs241/{shared.complete}"))["state"] == FINISHED


async def _taken(poller: Poller) -> Any:
    answer = await poller.poll()
    return data(answer) if answer.status_code == 200 else None


@pytest.mark.parametrize("assignment", ["odd", "empty-stage"])
async def test_an_assignment_that_cannot_run_must_be_registered_again(shared: Switched, assignment: str) -> None:
    body = {"students_env": [{}]}
    answer = await shared.server.client.post(f"grading_run/cs241/{assignment}", body, token=token_of("cs241"))

    assert answer.status_code == 400
    assert answer.json()["data"]["message"].endswith("register the assignment again")


async def test_a_late_result_for_a_lost_job_is_refused_and_changes_nothing(shared: Switched) -> None:
    before = await shared.contents()
    poller = Poller(shared.server, "late-host")
    data(await poller.register())

    for job_id in [*shared.lost_jobs.values(), shared.waiting_job]:
        assert (await poller.report(job_id)).status_code == 400

    assert await shared.contents() == before


async def test_requests_and_sweeps_change_no_document(shared: Switched) -> None:
    written = {name: {d["_id"] for d in documents} for name, documents in shared.original.documents.items()}
    before = await shared.contents()
    http = shared.server.http
    for run_id, course in [(r, "cs241") for r in (shared.complete, shared.failed, shared.lost)] + [
        (shared.waiting, "cs101")
    ]:
        for path in (f"v1/grading_run_status/{course}/{run_id}", f"v1/grading_run_env/{course}/{run_id}"):
            assert (await http.get(f"/api/{path}", headers=bearer(token_of(course)))).status_code == 200
    for job_id in (*shared.complete_jobs.values(), *shared.lost_jobs.values()):
        await http.get(f"/api/v1/grading_job_log/cs241/{job_id}", headers=bearer(token_of("cs241")))

    await shared.sweeps()
    await shared.sweeps()

    after = await shared.contents()
    assert after == before
    for name, documents in after.items():
        old = {identity: document for identity, document in documents.items() if identity in written[name]}
        assert old == {d["_id"]: _as_read(d) for d in shared.original.documents[name] if d["_id"] in old}


def _as_read(value: Any) -> Any:
    """Return a written value, with its times as they are read."""
    if isinstance(value, dict):
        return {key: _as_read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_read(item) for item in value]
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


async def test_many_lost_runs_do_not_keep_the_reconciler_from_new_ones(place: Place, tmp_path: Path) -> None:
    """There are more lost runs than the reconciler reads in one sweep."""
    many = Original()
    for state in (STUDENTS, PRE, "ready to be started"):
        for _ in range(LIMIT // 2):
            many.run("cs241/mp1", state, 1)
    async with switched_over(place, tmp_path, more=many.documents) as switched:
        before = await switched.contents()

        await switched.sweeps()

        assert await switched.contents() == before
        assert "repair:" not in switched.server.processes.log("api")


async def test_a_new_course_config_removes_courses_and_keeps_their_runs(place: Place, tmp_path: Path) -> None:
    async with switched_over(place, tmp_path) as switched:
        server, before = switched.server, await switched.contents()
        config = tmp_path / "courses.json"
        config.write_text(json.dumps({"cs101": {"tokens": ["staff-101"]}, "cs999": {"tokens": ["staff-999"]}}))
        assert await server.processes.terminate("api") == 0
        server.flags = [*server.flags, "--course-config", str(config)]
        await server.start()

        assert is_refused(
            await server.client.get(f"grading_run_status/cs241/{switched.complete}", token=token_of("cs241")),
            401,
            "course not found",
        )
        shared_token = await server.client.get(f"grading_run_status/cs101/{switched.waiting}", token="shared")
        assert is_refused(shared_token, 401, "invalid token")
        assert (await switched.get(f"grading_run_status/cs101/{switched.waiting}", "cs101"))["state"] == PRE
        assert await switched.contents() == before
        assert {d["_id"] for d in await switched.primary["course"].find().to_list()} == {"cs101", "cs999"}

        config.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
        assert await server.processes.terminate("api") == 0
        await server.start()

        assert (await switched.get(f"grading_run_status/cs241/{switched.complete}"))["state"] == FINISHED


# Size


async def test_the_indexes_are_created_at_the_first_start(shared: Switched) -> None:
    indexes = await shared.primary["grading_job"].index_information()
    of_logs = await shared.logs["job_log"].index_information()

    assert indexes["by_run"]["key"][0] == ("grading_run_id", 1)
    assert of_logs["by_job"]["key"] == [("grading_job_id", 1)]
    assert "by_state_and_outbox" in await shared.primary["grading_run"].index_information()


async def test_no_query_scans_a_large_old_collection(mongodb_dsn: str) -> None:
    listener = Listener()
    async with AsyncMongoClient[Document](mongodb_dsn, tz_aware=True, event_listeners=[listener]) as mongo:
        database = mongo[f"t{token_hex(4)}"]
        outcomes = Outcomes(database["job_outcome"])
        jobs = Jobs(database["grading_job"], outcomes, WorkResults(database["work_result"], database["submission"]))
        runs = Runs(database["grading_run"], database["run_students"])
        logs = Logs(database["job_log"], outcomes)
        for collection in (jobs, runs, logs):
            await collection.ensure_indexes()
        some = await _many_jobs(database, runs=RUNS, jobs=200)
        listener.queries.clear()

        await _run_all_queries(jobs, runs, logs, some)

        queries = list(listener.queries)
        for query in queries:
            assert await _starts_with_an_index(database, query), query


RUNS = 50 if IS_WHOLE else 5  # of an old deployment
KEPT = ("grading_job", "grading_run", "job_log")


async def _run_all_queries(jobs: Jobs, runs: Runs, logs: Logs, run_id: str) -> None:
    """Run the queries of requests and sweeps, for old jobs and for new ones."""
    now = datetime.now(UTC)
    listed = await jobs.of_run(run_id)
    assert [job.id for job in listed] == sorted(job.id for job in listed)
    await jobs.stages_of_run(run_id)
    assert await logs.get(listed[0].id, None)
    await jobs.position(replace(listed[0], course="cs241"))
    await jobs.count_waiting("cs241")
    await jobs.held_by("host1")
    await jobs.are_any_waiting("default")
    await jobs.expired(now, limit=LIMIT)
    await jobs.dispatched_before(now, limit=LIMIT)
    await jobs.queued_of_run(run_id, Phase.STUDENTS)
    await jobs.queued("cs241", JobClass.BULK, limit=LIMIT)
    await jobs.count_queued("cs241", JobClass.BULK)
    await jobs.courses_with_backlog()
    await jobs.is_phase_open(run_id, Phase.STUDENTS)
    await jobs.has_phase_succeeded(run_id, Phase.STUDENTS)
    assert await runs.summary(run_id)
    assert await runs.unpublished(now, limit=LIMIT) == []
    assert await runs.unfinished(limit=LIMIT) == {}


async def _starts_with_an_index(database: Database, query: Document) -> bool:
    """Return whether a query restricts an index's first key to a value, to some values, or to a range."""
    collection = database[query.get("find") or query.get("aggregate") or query["distinct"]]
    conditions = query.get("filter") or query.get("query") or query["pipeline"][0]["$match"]
    ranges = ("$lt", "$lte", "$gt", "$gte", "$ne", "$exists")
    between = {"$gt", "$lte"}
    fixed = {
        key
        for key, value in conditions.items()
        if not (isinstance(value, dict) and value.keys() & set(ranges)) or value.keys() == between
    }
    return any(index["key"][0][0] in fixed for index in (await collection.index_information()).values())


class Listener(CommandListener):
    """Records the queries that reach the store."""

    def __init__(self) -> None:
        self.queries: list[Document] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate", "distinct"):
            own = ("lsid", "$db", "$clusterTime", "$readPreference")
            self.queries.append({key: value for key, value in event.command.items() if key not in own})

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: object) -> None: ...


async def _many_jobs(database: Database, *, runs: int, jobs: int) -> str:
    """Insert runs of the original, some of them lost, and return the id of a complete one."""
    old = Original()
    for number in range(runs):
        run_id = old.run("cs241/mp1", STUDENTS if number < 3 else FINISHED, jobs)
        for _ in range(jobs):
            old.job(run_id, STUDENT_JOB, success=True, log="" if number == runs - 1 else None, stages=[])
    await insert({name: old.documents[name] for name in KEPT}, database, database)
    return run_id

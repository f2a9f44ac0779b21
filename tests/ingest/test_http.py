"""Every endpoint that clients of v1 use, with the original's answers, and the first endpoints of v2."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from earlier_jobs import dispatched
from harness import PATIENCE, Client, stage, token_of, until

from broadway.domain.job import Attempt, Execution, FaultPhase, Job, JobClass, Outcome, RetryPolicy
from broadway.domain.result import JobLog
from broadway.lifecycle.phases import advance
from broadway.messages.events import GraderHeartbeat, RunningJob
from broadway.messages.topology import course_queue
from broadway.mongo.store import Store
from broadway.rabbit.client import Rabbit

NOBODY = "0123456789abcdef01234567"
POLICY = RetryPolicy()
CORS = "access-control-allow-origin"
JSON = "application/json; charset=UTF-8"

ADMIN = [
    ("POST", "/api/v1/grading_config/{course}/mp1"),
    ("GET", "/api/v1/grading_config/{course}/mp1"),
    ("POST", "/api/v1/grading_run/{course}/mp1"),
    ("GET", f"/api/v1/grading_run_env/{{course}}/{NOBODY}"),
    ("GET", f"/api/v1/grading_job_log/{{course}}/{NOBODY}"),
    ("GET", "/api/v1/worker/{course}/all"),
    ("GET", "/api/v1/queue/{course}/length"),
]
MEMBER = [
    ("GET", f"/api/v1/grading_run_status/{{course}}/{NOBODY}"),
    ("GET", f"/api/v1/queue/{{course}}/{NOBODY}/position"),
]
EACH_ENDPOINT = pytest.mark.parametrize(("method", "path"), ADMIN + MEMBER)

BAD_HEADERS = [
    None,
    "",
    "Bearer",
    "bearer {token}",
    "BEARER {token}",
    "Basic {token}",
    "{token}",
    "Bearer  {token}",
    "Bearer {token} more",
    "Bearer\t{token}",
    "Bearer{token}",
]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def query_token_of(course: str) -> str:
    return token_of(course).replace("staff", "query")


def data(answer: httpx2.Response) -> Any:
    """Check that an answer is a success, and return its data."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON), answer.text
    assert answer.headers[CORS] == "*"
    body = answer.json()
    assert set(body) == {"status", "data"}
    assert body["status"] == "success"
    return body["data"]


def refused(answer: httpx2.Response, status: int, message: str) -> bool:
    """Check an error's body and headers, and return whether it has the status."""
    assert answer.json() == {"status": "fail", "data": {"message": message}}
    assert answer.headers["content-type"] == JSON
    assert answer.headers[CORS] == "*"
    return answer.status_code == status


async def jobs_of(client: Client, course: str, run_id: str) -> list[str]:
    return list((await client.status(course, run_id))["student_jobs_state"])


def execution_of(job_id: str) -> str:
    """Return the id of a job's only execution."""
    return f"e-{job_id}"


async def run_it(store: Store, job_id: str, execution: str | None = None) -> None:
    """Dispatch and start a job."""
    execution = execution or execution_of(job_id)
    now = datetime.now(UTC)

    def move(job: Job) -> Job:
        return dispatched(job, now).start(
            Attempt(execution, "g1", now), lease=timedelta(seconds=30), policy=POLICY, now=now
        )

    await store.jobs.move({job_id: move})


async def end_it(
    store: Store,
    job_id: str,
    outcome: Outcome,
    *,
    results: Sequence[dict[str, Any]] = (),
    execution: str | None = None,
) -> None:
    execution = execution or execution_of(job_id)
    now = datetime.now(UTC)
    report = Execution(
        execution, "g1", now, now, outcome, "stage 1 of 1: exit code 1", fault_phase=None, results=results
    )
    await store.jobs.move({job_id: lambda job: job.finish(report, policy=POLICY, now=now)})


async def end_phase(store: Store, run_id: str, outcomes: Sequence[Outcome]) -> None:
    """End the jobs of the run's current phase, and advance the run."""
    jobs = [job for job in await store.jobs.of_run(run_id) if not job.is_terminal]
    for job, outcome in zip(jobs, outcomes, strict=True):
        await end_it(store, job.id, outcome)
    await advance(run_id, runs=store.runs, jobs=store.jobs)


# Authorization


@EACH_ENDPOINT
@pytest.mark.parametrize("header", BAD_HEADERS)
async def test_a_malformed_header_is_refused_before_any_other_check(
    client: Client, course: str, method: str, path: str, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header.format(token=token_of(course))}
    for name in (course, "nowhere"):
        answer = await client.http.request(method, path.format(course=name), headers=headers, content=b"{")
        assert refused(answer, 401, "invalid token format")


@EACH_ENDPOINT
async def test_the_course_is_checked_before_the_token_and_the_body(
    client: Client, course: str, other_course: str, method: str, path: str
) -> None:
    async def ask(name: str, token: str) -> httpx2.Response:
        return await client.http.request(method, path.format(course=name), headers=bearer(token), content=b"{")

    assert refused(await ask("nowhere", token_of(course)), 401, "course not found")
    for token in ("wrong", token_of(other_course), token_of(course)[:-1], token_of(course) + "x", "cluster-token"):
        assert refused(await ask(course, token), 401, "invalid token")
    assert (await ask(course, token_of(course))).status_code in (200, 400)


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_query_tokens_do_not_allow_administration(client: Client, course: str, method: str, path: str) -> None:
    answer = await client.http.request(method, path.format(course=course), headers=bearer(query_token_of(course)))

    assert refused(answer, 401, "invalid token")


@pytest.mark.parametrize(("method", "path"), MEMBER)
async def test_query_tokens_allow_queries_of_states(client: Client, course: str, method: str, path: str) -> None:
    for token in (query_token_of(course), token_of(course), token_of(course).replace("staff", "second")):
        answer = await client.http.request(method, path.format(course=course), headers=bearer(token))
        assert answer.status_code == 400


@pytest.mark.parametrize(
    ("header", "expected"),
    [("Bearer {token}", 200), ("Bearer {token}  ", 200), ("   Bearer {token}\t", 200), ("Bearer ", 401), ("", 401)],
)
async def test_blanks_around_a_header_are_ignored(client: Client, course: str, header: str, expected: int) -> None:
    base = client.http.base_url
    reader, writer = await asyncio.open_connection(base.host, base.port)
    head = f"GET /api/v1/queue/{course}/length HTTP/1.1\r\nHost: {base.host}\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: {header.format(token=token_of(course))}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(f"HTTP/1.1 {expected} ".encode())
    assert (b"invalid token format" in answer) is (expected == 401)


# Methods, preflights and unknown paths


@EACH_ENDPOINT
async def test_preflights_need_no_token(client: Client, method: str, path: str) -> None:
    answer = await client.http.options(path.format(course="nowhere"))

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers[CORS] == "*"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert method in answer.headers["access-control-allow-methods"]


@EACH_ENDPOINT
@pytest.mark.parametrize("wrong", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_other_methods_are_not_allowed(client: Client, method: str, path: str, wrong: str) -> None:
    answer = await client.http.request(wrong, path.format(course="nowhere"))

    assert answer.status_code == 405
    assert answer.headers[CORS] == "*"
    assert method in answer.headers["allow"]
    if wrong != "HEAD":
        assert answer.json() == {"status": "error", "message": "Method Not Allowed", "code": 405}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v1",
        "/api/v1/grading_config/cs1",
        "/api/v1/grading_config/cs1/mp1/",
        "/api/v1/grading_config/cs1/mp1/more",
        "/api/v1/grading_config/cs%201/mp1",
        "/api/v1/grading_run_status/cs1/a.b",
        "/api/v1/queue/cs1/length/",
        "/api/v1/queue/c$1/length",
        "/api/v1/queue/cs1",
    ],
)
async def test_unknown_paths_are_not_found(client: Client, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = await client.http.request(method, path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == JSON


# C1, C2


async def test_a_config_is_returned_as_posted(client: Client, course: str) -> None:
    config = {
        "student_pipeline": [
            {"image": "a", "timeout": 30, "env": {"LIST": [1, {"x": None}]}, "entrypoint": ["x"]},
            {"image": "b", "networking": False, "hostname": "h", "memory": "64m", "logs": False, "cpuset_cpus": "0"},
        ],
        "pre_processing_pipeline": [{"image": "c", "timeout": 1.5}],
        "post_processing_pipeline": [],
        "env": {"ü": "\u2028</script>", "BIG": 2**63 - 1, "SMALL": -(2**63)},
    }

    assert data(await client.post(f"grading_config/{course}/mp1", config, token=token_of(course))) is None
    answer = await client.get(f"grading_config/{course}/mp1", token=token_of(course))
    assert data(answer) == config
    assert '"timeout":30}' in answer.text


async def test_a_config_always_has_all_four_keys(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[{"image": "a"}])

    assert data(await client.get(f"grading_config/{course}/mp1", token=token_of(course))) == {
        "env": None,
        "student_pipeline": [{"image": "a"}],
        "pre_processing_pipeline": None,
        "post_processing_pipeline": None,
    }


async def test_a_new_config_replaces_the_whole_config(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[{"image": "a"}], env={"A": "1"}, pre_processing_pipeline=[stage()])
    await client.register(course, "mp1", students=[{"image": "b"}])

    config = data(await client.get(f"grading_config/{course}/mp1", token=token_of(course)))
    assert (config["student_pipeline"], config["env"]) == ([{"image": "b"}], None)
    assert config["pre_processing_pipeline"] is None


async def test_a_config_belongs_to_its_course_and_assignment(client: Client, course: str, other_course: str) -> None:
    await client.register(course, "mp1", students=[{"image": "a"}])

    for name, assignment in ((course, "mp2"), (other_course, "mp1")):
        answer = await client.get(f"grading_config/{name}/{assignment}", token=token_of(name))
        assert refused(answer, 400, "assignment configuration not found")
        answer = await client.post(f"grading_run/{name}/{assignment}", {"students_env": []}, token=token_of(name))
        assert refused(answer, 400, "assignment configuration not found")


async def test_the_content_type_of_a_body_does_not_matter(client: Client, course: str) -> None:
    answer = await client.http.post(
        f"/api/v1/grading_config/{course}/mp1",
        content=b' {"student_pipeline": [{"image": "a"}]}\n',
        headers={**bearer(token_of(course)), "Content-Type": "text/plain; charset=latin-1"},
    )

    assert data(answer) is None


# C3, C4


async def test_a_run_is_visible_once_its_submission_is_answered(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])
    body = {"students_env": [{"STUDENT_ID": "s0"}, {"STUDENT_ID": "s1"}]}
    answer = data(await client.post(f"grading_run/{course}/mp1", body, token=token_of(course)))
    run_id = answer.pop("grading_run_id")

    assert answer == {}
    assert len(run_id) == 24
    assert set(run_id) <= set("0123456789abcdef")
    status = data(await client.get(f"grading_run_status/{course}/{run_id}", token=query_token_of(course)))
    assert set(status) == {
        "state",
        "pre_processing_job_state",
        "post_processing_job_state",
        "student_jobs_state",
    }
    assert status["state"] == "students grading jobs have been scheduled"
    assert status["pre_processing_job_state"] is None
    assert status["post_processing_job_state"] is None
    assert list(status["student_jobs_state"].values()) == ["grading job has been scheduled"] * 2
    assert data(await client.get(f"queue/{course}/length", token=token_of(course))) == {"length": 2}
    for place, job_id in enumerate(status["student_jobs_state"]):
        answer = data(await client.get(f"queue/{course}/{job_id}/position", token=query_token_of(course)))
        assert answer == {"position": place}


async def test_a_runs_jobs_are_published_to_its_courses_backlog(client: Client, course: str, rabbit: Rabbit) -> None:
    bulk, interactive = course_queue(course, JobClass.BULK), course_queue(course, JobClass.INTERACTIVE)
    await rabbit.declare(bulk, interactive)
    await client.register(course, "mp1", students=[stage()])
    await client.submit(course, "mp1", students=3)
    await client.submit(course, "mp1", students=1)

    async def all_there() -> bool:
        return (await rabbit.depth(bulk), await rabbit.depth(interactive)) == (1, 1)  # messages

    await until(all_there)


@pytest.mark.parametrize("kind", ["pre", "post"])
@pytest.mark.parametrize("env", [{}, {"A": "1"}])
async def test_an_environment_needs_its_pipeline(client: Client, course: str, kind: str, env: dict[str, str]) -> None:
    await client.register(course, "mp1", students=[stage()], **{f"{kind}_processing_pipeline": []})
    body = {"students_env": [{}], f"{kind}_processing_env": env}
    answer = await client.post(f"grading_run/{course}/mp1", body, token=token_of(course))

    message = (
        f"{kind}-processing runtime environment provided, "
        f"but no {kind}-processing stage was associated with this assignment"
    )
    assert refused(answer, 400, message)
    assert data(await client.get(f"queue/{course}/length", token=token_of(course))) == {"length": 0}


async def test_a_pipeline_needs_no_environment(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()], pre_processing_pipeline=[stage()])
    run_id = await client.submit(course, "mp1", students=1)

    assert (await client.status(course, run_id))["state"] == "pre processing job has been scheduled"


async def test_a_run_without_students_is_complete_at_once(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=0)

    assert (await client.status(course, run_id)) == {
        "state": "grading run is complete",
        "pre_processing_job_state": None,
        "post_processing_job_state": None,
        "student_jobs_state": {},
    }


async def test_a_run_reports_each_of_its_states(client: Client, course: str, store: Store) -> None:
    await client.register(
        course,
        "mp1",
        students=[stage()],
        pre_processing_pipeline=[stage()],
        post_processing_pipeline=[stage()],
    )
    run_id = await client.submit(course, "mp1", students=2)
    states = [await client.status(course, run_id)]
    for outcomes in ([Outcome.SUCCEEDED], [Outcome.FAILED, Outcome.TIMED_OUT], [Outcome.SUCCEEDED]):
        await end_phase(store, run_id, outcomes)
        states.append(await client.status(course, run_id))

    queued, failed, good = "grading job has been scheduled", "grading job failed", "grading job was successful"
    assert [
        [state["state"]]
        + [list((state[f"{part}_state"] or {}).values()) for part in ("pre_processing_job", "student_jobs")]
        + [state["post_processing_job_state"] and list(state["post_processing_job_state"].values())]
        for state in states
    ] == [
        ["pre processing job has been scheduled", [queued], [], None],
        ["students grading jobs have been scheduled", [good], [queued] * 2, None],
        ["post processing job has been scheduled", [good], [failed] * 2, [queued]],
        ["grading run is complete", [good], [failed] * 2, [good]],
    ]


@pytest.mark.parametrize("failing", ["pre", "post"])
async def test_a_failed_pre_or_post_processing_job_fails_the_run(
    client: Client, course: str, store: Store, failing: str
) -> None:
    await client.register(course, "mp1", students=[stage()], **{f"{failing}_processing_pipeline": [stage()]})
    run_id = await client.submit(course, "mp1", students=1)
    if failing == "post":
        await end_phase(store, run_id, [Outcome.SUCCEEDED])
    await end_phase(store, run_id, [Outcome.FAILED])

    status = await client.status(course, run_id)
    assert status["state"] == "grading run failed"
    assert list(status[f"{failing}_processing_job_state"].values()) == ["grading job failed"]
    assert len(status["student_jobs_state"]) == (1 if failing == "post" else 0)


async def test_a_job_reports_each_of_its_states(client: Client, course: str, store: Store) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=7)
    ids = await jobs_of(client, course, run_id)
    await store.jobs.move({ids[1]: lambda job: dispatched(job, datetime.now(UTC))})
    await run_it(store, ids[2])
    for job_id, outcome in zip(
        ids[3:], (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.OUT_OF_MEMORY, Outcome.INFRASTRUCTURE_ERROR), strict=True
    ):
        await run_it(store, job_id)
        await end_it(store, job_id, outcome)

    assert (await client.status(course, run_id))["student_jobs_state"] == dict(
        zip(
            ids,
            [
                "grading job has been scheduled",
                "grading job has been scheduled",
                "grading job is running",
                "grading job was successful",
                "grading job failed",
                "grading job failed",
                "grading job failed",
            ],
            strict=True,
        )
    )


async def test_jobs_are_in_the_rosters_order(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=30)

    env = data(await client.get(f"grading_run_env/{course}/{run_id}", token=token_of(course)))["student_env"]
    assert list(env) == await jobs_of(client, course, run_id)
    assert [variables["STUDENT_ID"] for variables in env.values()] == [[f"s{n}"] for n in range(30)]


# C5


async def test_environments_hold_every_value_of_every_stage(client: Client, course: str) -> None:
    await client.register(
        course,
        "mp1",
        students=[
            stage(env={"S": "first", "L": [1, {"a": None}], "SAME": {"x": 1, "y": 2}}),
            stage(env={"S": "second", "L": [1, {"a": None}], "SAME": {"y": 2, "x": 1}}),
        ],
        env={"ALL": None},
    )
    body = {"students_env": [{"A": "1", "O": {"deep": [True]}}, {"B": 2.5}]}
    run_id = data(await client.post(f"grading_run/{course}/mp1", body, token=token_of(course)))["grading_run_id"]

    env = data(await client.get(f"grading_run_env/{course}/{run_id}", token=token_of(course)))
    assert (env["pre_processing_env"], env["post_processing_env"]) == (None, None)
    shared = {"ALL": [None], "GRADING_RUN_ID": [run_id], "L": [[1, {"a": None}]], "SAME": [{"x": 1, "y": 2}]}
    shared["S"] = ["first", "second"]
    assert env["student_env"] == {
        job_id: {**shared, **own, "GRADING_JOB_ID": [job_id]}
        for job_id, own in zip(env["student_env"], [{"A": ["1"], "O": [{"deep": [True]}]}, {"B": [2.5]}], strict=True)
    }


async def test_pre_and_post_processing_have_their_environments(client: Client, course: str, store: Store) -> None:
    both: dict[str, Any] = {f"{kind}_processing_pipeline": [stage()] for kind in ("pre", "post")}
    await client.register(course, "mp1", students=[stage()], **both)
    run_id = await client.submit(
        course, "mp1", students=1, pre_processing_env={"A": "pre"}, post_processing_env={"A": "post"}
    )

    async def values(phase: str) -> Any:
        env = data(await client.get(f"grading_run_env/{course}/{run_id}", token=token_of(course)))
        return env[phase] and [variables.get("A") for variables in env[phase].values()]

    assert (await values("pre_processing_env"), await values("student_env")) == ([["pre"]], {})
    await end_phase(store, run_id, [Outcome.SUCCEEDED])
    assert (await values("student_env"), await values("post_processing_env")) == ([None], None)
    await end_phase(store, run_id, [Outcome.SUCCEEDED])
    assert await values("post_processing_env") == [["post"]]


# C6


async def test_a_log_is_available_once_the_job_has_ended(client: Client, course: str, store: Store) -> None:
    await client.register(course, "mp1", students=[stage()])
    (job_id,) = await jobs_of(client, course, await client.submit(course, "mp1", students=1))
    missing = "grading job with the given ID not found or has not finished"

    async def ask() -> httpx2.Response:
        return await client.get(f"grading_job_log/{course}/{job_id}", token=token_of(course))

    assert refused(await ask(), 400, missing)
    await run_it(store, job_id)
    await store.logs.put(
        [JobLog(job_id, execution_of(job_id), "out\n", "err"), JobLog(job_id, "other", "another execution's", "")]
    )
    assert refused(await ask(), 400, missing)
    await end_it(store, job_id, Outcome.FAILED)
    assert data(await ask()) == {"stdout": "out\n", "stderr": "err"}


async def test_a_job_whose_graders_died_has_no_log(client: Client, course: str, store: Store) -> None:
    await client.register(course, "mp1", students=[stage()])
    (job_id,) = await jobs_of(client, course, await client.submit(course, "mp1", students=1))
    await store.jobs.move({job_id: lambda job: job.give_up("lost", FaultPhase.WAIT, datetime.now(UTC))})

    answer = await client.get(f"grading_job_log/{course}/{job_id}", token=token_of(course))
    assert refused(answer, 400, "grading job with the given ID not found or has not finished")


# C7


async def test_all_workers_are_listed(client: Client, course: str, store: Store) -> None:
    now = datetime.now(UTC)

    def beat(name: str, *, busy: bool = False, leaving: bool = False) -> GraderHeartbeat:
        running = [RunningJob(job_id=NOBODY, generation=1, execution_id="e1")] if busy else []
        return GraderHeartbeat(
            grader_id=f"{course}-{name}",
            hostname=f"{course}-{name}",
            pool="default",
            slots=2,
            running=running,
            leaving=leaving,
            sent_at=now,
        )

    await store.graders.beat([beat("busy", busy=True), beat("gone", leaving=True), beat("idle")], now=now)
    await store.graders.count_starts({f"{course}-busy": 3})

    nodes = data(await client.get(f"worker/{course}/all", token=token_of(course)))["worker_nodes"]
    assert [node for node in nodes if node["hostname"].startswith(course)] == [
        {"hostname": f"{course}-busy", "jobs_processed": 3, "busy": True, "alive": True},
        {"hostname": f"{course}-gone", "jobs_processed": 0, "busy": False, "alive": False},
        {"hostname": f"{course}-idle", "jobs_processed": 0, "busy": False, "alive": True},
    ]


@pytest.mark.parametrize("off", [-3600, 3600])
async def test_a_workers_liveness_does_not_depend_on_its_clock(store: Store, course: str, off: float) -> None:
    name, now = f"{course}-{off:g}", datetime.now(UTC)

    async def beat(sent: float, slots: int, *, received: float) -> int:
        at = now + timedelta(seconds=off + sent)
        heartbeat = GraderHeartbeat(grader_id=name, hostname=name, pool="default", slots=slots, sent_at=at)
        await store.graders.beat([heartbeat], now=now + timedelta(seconds=received))
        grader = await store.graders.get(name)
        assert grader
        assert grader.slots is not None
        return grader.slots

    assert await beat(0, 2, received=0) == 2
    assert await beat(-5, 3, received=1) == 2, "sent earlier, heard later"
    assert name not in await store.graders.mark_silent_dead(now - timedelta(seconds=1))
    assert await beat(-1800, 4, received=90) == 4, "the clock was set back"
    assert name in await store.graders.mark_silent_dead(now + timedelta(seconds=91))


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("mine", "mine"),
        ("all/all", "all/all"),
        ("a%20b", "a b"),
        ("ALL", "ALL"),
        ("%C3%BC", "ü"),
        ("%22%3C%2Fscript%3E", '"</script>'),
        ("%FF", "\N{REPLACEMENT CHARACTER}"),
    ],
)
async def test_other_scopes_are_not_implemented(client: Client, course: str, path: str, scope: str) -> None:
    answer = await client.get(f"worker/{course}/{path}", token=token_of(course))

    assert refused(answer, 404, f"scope {scope} has not been implemented yet")


# C8, C9


async def test_the_queue_is_first_in_first_out_and_moves_up(client: Client, course: str, store: Store) -> None:
    await client.register(course, "mp1", students=[stage()])
    runs = [await client.submit(course, "mp1", students=number) for number in (3, 2)]
    waiting = [job_id for run_id in runs for job_id in await jobs_of(client, course, run_id)]

    while waiting:
        assert data(await client.get(f"queue/{course}/length", token=token_of(course))) == {"length": len(waiting)}
        for place, job_id in enumerate(waiting):
            answer = await client.get(f"queue/{course}/{job_id}/position", token=token_of(course))
            assert data(answer) == {"position": place}
        started = waiting.pop(0)
        await run_it(store, started)
        answer = await client.get(f"queue/{course}/{started}/position", token=token_of(course))
        assert refused(answer, 400, f"{started} has already passed through the queue")
        await end_it(store, started, Outcome.SUCCEEDED)
        answer = await client.get(f"queue/{course}/{started}/position", token=token_of(course))
        assert refused(answer, 400, f"{started} has already passed through the queue")

    assert data(await client.get(f"queue/{course}/length", token=token_of(course))) == {"length": 0}


async def test_a_dispatched_job_keeps_its_position(client: Client, course: str, store: Store) -> None:
    await client.register(course, "mp1", students=[stage()])
    ids = await jobs_of(client, course, await client.submit(course, "mp1", students=2))
    await store.jobs.move({ids[0]: lambda job: dispatched(job, datetime.now(UTC))})

    assert data(await client.get(f"queue/{course}/length", token=token_of(course))) == {"length": 2}
    assert data(await client.get(f"queue/{course}/{ids[1]}/position", token=token_of(course))) == {"position": 1}


async def test_a_single_student_goes_before_a_roster_and_other_courses_do_not_count(
    client: Client, course: str, other_course: str
) -> None:
    for name in (course, other_course):
        await client.register(name, "mp1", students=[stage()])
    await client.submit(other_course, "mp1", students=9)
    roster = await jobs_of(client, course, await client.submit(course, "mp1", students=2))
    (single,) = await jobs_of(client, course, await client.submit(course, "mp1", students=1))

    places = [
        data(await client.get(f"queue/{course}/{job_id}/position", token=token_of(course)))["position"]
        for job_id in (single, *roster)
    ]
    assert places == [0, 1, 2]
    assert data(await client.get(f"queue/{course}/length", token=token_of(course))) == {"length": 3}


# Unknown and foreign ids

RUN_MISSING = "grading run with the given ID not found"
JOB_MISSING = "grading job with the given ID not found"
LOG_MISSING = f"{JOB_MISSING} or has not finished"


@pytest.mark.parametrize(
    "identity", [NOBODY, "0", "x" * 24, NOBODY.upper(), NOBODY[:-1], NOBODY + "0", "length", "-", "_" * 500]
)
async def test_unknown_and_malformed_ids_are_refused(client: Client, course: str, identity: str) -> None:
    for path, message in (
        (f"grading_run_status/{course}/{identity}", RUN_MISSING),
        (f"grading_run_env/{course}/{identity}", RUN_MISSING),
        (f"grading_job_log/{course}/{identity}", LOG_MISSING),
        (f"queue/{course}/{identity}/position", JOB_MISSING),
    ):
        assert refused(await client.get(path, token=token_of(course)), 400, message)
    answer = await client.get(f"courses/{course}/runs/{identity}", token=token_of(course), version="v2")
    assert answer.status_code == 404


async def test_runs_and_jobs_of_another_course_are_unknown(
    client: Client, course: str, other_course: str, store: Store
) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=2)
    waiting, ended = await jobs_of(client, course, run_id)
    await run_it(store, ended)
    await store.logs.put([JobLog(ended, execution_of(ended), "secret", "")])
    await end_it(store, ended, Outcome.SUCCEEDED)

    for path, message in (
        ("grading_run_status/{}/" + run_id, RUN_MISSING),
        ("grading_run_env/{}/" + run_id, RUN_MISSING),
        ("grading_job_log/{}/" + ended, LOG_MISSING),
        ("queue/{}/" + waiting + "/position", JOB_MISSING),
    ):
        assert refused(await client.get(path.format(other_course), token=token_of(other_course)), 400, message)
        assert (await client.get(path.format(course), token=token_of(course))).status_code == 200
    answer = await client.get(f"courses/{other_course}/runs/{run_id}", token=token_of(other_course), version="v2")
    assert answer.status_code == 404


async def test_a_run_id_is_not_a_job_id(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=1)
    (job_id,) = await jobs_of(client, course, run_id)

    answer = await client.get(f"queue/{course}/{run_id}/position", token=token_of(course))
    assert refused(answer, 400, JOB_MISSING)
    answer = await client.get(f"grading_run_status/{course}/{job_id}", token=token_of(course))
    assert refused(answer, 400, RUN_MISSING)


# Health and v2


async def test_the_service_reports_its_health(client: Client) -> None:
    live, ready = await client.http.get("/livez"), await client.http.get("/readyz")

    assert (live.status_code, live.json()) == (200, {"alive": True})
    assert ready.status_code == 200
    report = ready.json()
    assert datetime.now(UTC) - datetime.fromisoformat(report.pop("looked_at")) < timedelta(seconds=PATIENCE)
    assert report == {"ready": True, "store": True, "broker": True, "away": {}}


async def test_v2_describes_a_run_and_lists_its_jobs(client: Client, course: str, store: Store) -> None:
    await client.register(course, "mp1", students=[stage(env={"S": "1"})])
    run_id = await client.submit(course, "mp1", students=2)
    failed, waiting = await jobs_of(client, course, run_id)
    await run_it(store, failed)
    await end_it(store, failed, Outcome.FAILED)

    answer = await client.get(f"courses/{course}/runs/{run_id}", token=query_token_of(course), version="v2")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    run = answer.json()
    assert {key: run[key] for key in ("id", "course", "assignment", "state", "finished_at", "success")} == {
        "id": run_id,
        "course": course,
        "assignment": "mp1",
        "state": "students",
        "finished_at": None,
        "success": None,
    }
    assert datetime.fromisoformat(run["started_at"]).tzinfo is not None
    (phase,) = run["phases"]
    assert (phase["jobs"], phase["outcomes"], phase["reason"]) == (2, {"failed": 1}, "stage 1 of 1: exit code 1")
    page = await client.get(f"courses/{course}/runs/{run_id}/jobs", token=query_token_of(course), version="v2")
    first, second = page.json()["items"]
    assert (first["id"], first["phase"], first["state"], first["outcome"]) == (failed, "students", "finished", "failed")
    assert (first["reason"], first["attempts"], first["grader"]) == ("stage 1 of 1: exit code 1", 1, "g1")
    assert first["seconds"] >= 0
    assert first["queue_seconds"] >= 0
    assert (second["id"], second["state"], second["outcome"], second["attempts"]) == (waiting, "queued", None, 0)
    assert (second["seconds"], second["queue_seconds"], second["grader"]) == (None, None, None)
    assert (first["env"], second["env"]) == ({}, {}), "variables are for staff"
    (_, second) = (await client.describe(course, run_id))["jobs"]
    assert second["env"] == {"S": "1", "STUDENT_ID": "s1", "GRADING_RUN_ID": run_id, "GRADING_JOB_ID": waiting}


async def test_v2_describes_a_job(client: Client, course: str, store: Store) -> None:
    stages = [stage(env={"S": "1"}), {**stage(), "untrusted": True}, {**stage(), "results": "results.json"}]
    await client.register(course, "mp1", students=stages)
    run_id = await client.submit(course, "mp1", students=1)
    (job_id,) = await jobs_of(client, course, run_id)
    path = f"courses/{course}/jobs/{job_id}"

    waiting = (await client.get(path, token=token_of(course), version="v2")).json()
    assert (waiting["state"], waiting["executions"], waiting["score"], waiting["finished_at"]) == (
        "queued",
        [],
        None,
        None,
    )
    assert [each["usage"] for each in waiting["stages"]] == [None] * 3

    usage = {"image": "sha256:1", "cpu_seconds": 0.5, "peak_memory": 1024, "wall_seconds": 1.0}
    data = {"ExitCode": 0, "OOMKilled": False}
    entry = {"data": data, "killed": False, "killed_for": None, "signal": None, "success": True, "usage": usage}
    killed = {**entry, "killed": True, "killed_for": "disk", "signal": 9}
    scores = {"score": 8.5, "max_score": 10.0, "document": '{"score": 8.5}'}
    await run_it(store, job_id)
    await end_it(store, job_id, Outcome.SUCCEEDED, results=[entry, killed, {**entry, "scores": scores}])

    described = (await client.get(path, token=token_of(course), version="v2")).json()
    assert {key: described[key] for key in ("id", "run", "course", "assignment", "generation", "outcome")} == {
        "id": job_id,
        "run": run_id,
        "course": course,
        "assignment": "mp1",
        "generation": 1,
        "outcome": "succeeded",
    }
    assert (described["score"], described["max_score"], described["results"]) == (8.5, 10.0, '{"score": 8.5}')
    assert [each["untrusted"] for each in described["stages"]] == [False, True, False]
    assert [each["exit_code"] for each in described["stages"]] == [0, 0, 0]
    assert [each["killed_for"] for each in described["stages"]] == [None, "disk", None]
    assert [each["signal"] for each in described["stages"]] == [None, 9, None]
    assert all(each["usage"] == usage for each in described["stages"])
    (execution,) = described["executions"]
    assert (execution["grader"], execution["outcome"], execution["given_back"]) == ("g1", "succeeded", False)


async def test_v2_returns_a_jobs_log_by_line(client: Client, course: str, store: Store) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=1)
    (job_id,) = await jobs_of(client, course, run_id)
    path = f"courses/{course}/jobs/{job_id}/log"
    assert (await client.get(path, token=token_of(course), version="v2")).status_code == 404

    at = "2026-03-01T12:00:00.000000001Z"
    await run_it(store, job_id)
    await store.logs.put([JobLog(job_id, execution_of(job_id), f"{at} out\n{at} err\n", "")])
    await end_it(store, job_id, Outcome.FAILED, results=[{"success": False, "streams": [[1, 1], [2, 1]]}])

    answer = await client.get(path, token=token_of(course), version="v2")
    assert answer.json() == {
        "job": job_id,
        "attempt": execution_of(job_id),
        "lines": [
            {"stage": 0, "at": at, "stream": "stdout", "text": "out"},
            {"stage": 0, "at": at, "stream": "stderr", "text": "err"},
        ],
        "error": "",
    }


async def test_v2_keeps_the_logs_of_earlier_attempts_of_a_job(client: Client, course: str, store: Store) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=1)
    (job_id,) = await jobs_of(client, course, run_id)
    first, second = token_hex(12), token_hex(12)
    for number, execution in enumerate((first, second), 1):
        await run_it(store, job_id, execution)
        await store.logs.put([JobLog(job_id, execution, f"output {number}\n", "", [[], [(1, 1)]])])
        await end_it(store, job_id, Outcome.FAILED, execution=execution)
        await store.jobs.move({job_id: lambda job: job.rerun(job.generation, job.round + 1, datetime.now(UTC))})

    path = f"courses/{course}/jobs/{job_id}/log"
    for number, execution in enumerate((first, second), 1):
        answer = await client.get(f"{path}?attempt={execution}", token=token_of(course), version="v2")
        [line] = answer.json()["lines"]
        assert (line["stage"], line["stream"], line["text"]) == (1, "stdout", f"output {number}")
    other = await client.get(f"{path}?attempt=unknown", token=token_of(course), version="v2")
    assert (other.status_code, (await client.get(path, token=token_of(course), version="v2")).status_code) == (404, 404)


async def test_v2_jobs_of_another_course_are_unknown(client: Client, course: str, other_course: str) -> None:
    await client.register(other_course, "mp1", students=[stage()])
    run_id = await client.submit(other_course, "mp1", students=1)
    (job_id,) = await jobs_of(client, other_course, run_id)

    for each in (job_id, NOBODY):
        answer = await client.get(f"courses/{course}/jobs/{each}", token=token_of(course), version="v2")
        assert (answer.status_code, answer.json()["status"]) == (404, 404)


async def test_v2_refuses_with_problem_details(client: Client, course: str) -> None:
    path = f"/api/v2/courses/{course}/runs/{NOBODY}"
    for headers, status, detail in (
        ({}, 401, "invalid token format"),
        (bearer("wrong"), 401, "invalid token"),
        (bearer(token_of(course)), 404, RUN_MISSING),
    ):
        answer = await client.http.get(path, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert (answer.json()["status"], answer.json()["detail"]) == (status, detail)


async def join(client: Client, body: bytes, *, token: str) -> httpx2.Response:
    return await client.http.post("/api/v2/graders/g1", content=body, headers=bearer(token))


async def test_a_grader_joins(client: Client) -> None:
    answer = await join(client, b'{"hostname": "host1"}', token="cluster-token")

    assert answer.status_code == 200
    joined = answer.json()
    assert [len(joined.pop(name)) for name in ("deployment", "proof_key")] == [32, 64]
    assert joined == {
        "heartbeat_interval": 7,
        "amqp_url": "amqp://graders@broker.example/",
        "own_user": False,
        "own_secret": False,
        "batches": True,
        "cancelled_logs": True,
        "order": {"grader_id": "g1", "revision": 0, "mode": "online", "slots": None, "reason": ""},
    }
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "malformed"),
        (b"{}", "hostname"),
        (b'{"hostname": 1}', "hostname"),
        (b'{"hostname": "h", "slots": 0}', "slots"),
        (b'{"hostname": "h", "pool": "a.b"}', "pool"),
        (b'{"hostname": "h", "cpus": 4}', "cpus"),
    ],
)
async def test_an_invalid_body_of_a_joining_grader_is_refused(client: Client, body: bytes, named: str) -> None:
    answer = await join(client, body, token="cluster-token")

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert named in answer.json()["detail"]
    assert (await join(client, body, token="wrong")).status_code == 401


async def test_a_courses_token_does_not_admit_graders(client: Client, course: str) -> None:
    answer = await join(client, b'{"hostname": "host1"}', token=token_of(course))

    assert (answer.status_code, answer.json()["detail"]) == (401, "invalid token")
    assert "amqp" not in answer.text


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_run_has_a_tag_until_it_changes(client: Client, course: str, store: Store, version: str) -> None:
    await client.register(course, "mp1", students=[stage()])
    run_id = await client.submit(course, "mp1", students=2)
    job_id, _ = await jobs_of(client, course, run_id)
    below = f"grading_run_status/{course}/{run_id}" if version == "v1" else f"courses/{course}/runs/{run_id}"
    headers = {"Authorization": f"Bearer {token_of(course)}"}

    async def ask(condition: str | None = None) -> httpx2.Response:
        more = {} if condition is None else {"If-None-Match": condition}
        return await client.http.get(f"/api/{version}/{below}", headers={**headers, **more})

    first = await ask()
    tag = first.headers["etag"]
    assert (first.status_code, (await ask()).content) == (200, first.content)
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await ask(condition)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["access-control-allow-origin"] == "*"
    for condition in ('"other"', tag.strip('"'), ""):
        assert (await ask(condition)).content == first.content
    await run_it(store, job_id)
    changed = await ask(tag)
    assert (changed.status_code, changed.headers["etag"] == tag) == (200, False)

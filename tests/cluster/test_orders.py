"""Cancelled and repeated jobs and runs, and repeated submissions."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from harness import Cluster, broadway, stage, token_of, until

from broadway.domain.run import Order, OrderKind, RunState

COURSE = "cs241"
POST = {"post_processing_pipeline": [stage("print", "report")]}


async def order(cluster: Cluster, path: str, body: Any = None, *, course: str = COURSE) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token_of(course)}"}
    return await cluster.client.http.post(f"/api/v2/courses/{course}/{path}", json=body, headers=headers)


async def carried_out(cluster: Cluster, path: str, body: Any = None) -> dict[str, Any]:
    answer = await order(cluster, path, body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def refusal(cluster: Cluster, path: str, body: Any = None, *, course: str = COURSE) -> tuple[int, str]:
    answer = await order(cluster, path, body, course=course)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["detail"]


async def outcomes(cluster: Cluster, run_id: str) -> list[str | None]:
    return [job["outcome"] for job in (await cluster.client.describe(COURSE, run_id))["jobs"]]


async def running(cluster: Cluster, run_id: str, number: int = 1) -> list[dict[str, Any]]:
    """Return a run's jobs once this number of them is running."""

    async def jobs() -> list[dict[str, Any]]:
        found = (await cluster.client.describe(COURSE, run_id))["jobs"]
        return found if sum(job["state"] == "running" for job in found) == number else []

    return list(await until(jobs))


async def is_quiet(cluster: Cluster) -> bool:
    """Return whether no job is queued, in flight or running."""
    waiting = await cluster.client.get(f"queue/{COURSE}/length", token=token_of(COURSE))
    nodes = (await cluster.client.get(f"worker/{COURSE}/all", token=token_of(COURSE))).json()["data"]["worker_nodes"]
    return waiting.json()["data"]["length"] == 0 and not any(node["busy"] for node in nodes)


async def test_a_cancelled_run_ends_at_once_and_its_containers_are_killed(cluster: Cluster) -> None:
    containers = cluster.graders.start("host1", slots=2)
    await cluster.client.register(COURSE, "mp1", students=[stage("hang", timeout=600)], **POST)
    run_id = await cluster.client.submit(COURSE, "mp1", students=5)
    await running(cluster, run_id, 2)

    result = await carried_out(cluster, f"runs/{run_id}/cancel", {"reason": "wrong deadline"})
    assert (result["state"], len(result["jobs"])) == ("failed", 5)
    run = await cluster.client.describe(COURSE, run_id)
    assert (run["state"], run["success"]) == ("failed", False)
    assert [(job["outcome"], job["reason"]) for job in run["jobs"]] == [("cancelled", "wrong deadline")] * 5
    await until(lambda: is_quiet(cluster))

    await cluster.client.register(COURSE, "mp2", students=[stage("exit", "0")])
    after = await cluster.client.finished(COURSE, await cluster.client.submit(COURSE, "mp2", students=3))
    assert [job["outcome"] for job in after["jobs"]] == ["succeeded"] * 3
    assert len(containers.started) <= 2 + 1 + 3, "of what waited, only the one on its way to a grader may have started"
    assert await refusal(cluster, f"runs/{run_id}/cancel") == (409, "the run is over")


async def test_a_cancelled_job_is_left_out_and_its_run_goes_on(cluster: Cluster) -> None:
    cluster.graders.start("host1", slots=1)
    await cluster.client.register(COURSE, "mp1", students=[stage("hang", timeout=600)], **POST)
    run_id = await cluster.client.submit(COURSE, "mp1", students=2)
    first, second = await running(cluster, run_id)

    await carried_out(cluster, f"jobs/{second['id']}/cancel")
    await carried_out(cluster, f"jobs/{first['id']}/cancel")
    run = await cluster.client.finished(COURSE, run_id)
    assert [job["outcome"] for job in run["jobs"]] == ["cancelled", "cancelled", "succeeded"]
    assert run["jobs"][0]["reason"] == "cancelled by the course staff"
    assert await refusal(cluster, f"jobs/{first['id']}/cancel") == (409, "the job is over")


async def test_the_log_of_a_job_that_was_cancelled_stays_readable_with_its_stages(cluster: Cluster) -> None:
    engine = cluster.graders.start("host1", slots=1)
    staged = [stage("print", "of the first"), stage("print-and-hang", "of the second", timeout=600), stage("exit")]
    await cluster.client.register(COURSE, "mp1", students=staged)
    job = (await running(cluster, await cluster.client.submit(COURSE, "mp1", students=1)))[0]["id"]
    await until(lambda: len(engine.started) == 2)
    await carried_out(cluster, f"jobs/{job}/cancel")

    async def log() -> dict[str, Any] | None:
        answer = await cluster.client.get(f"grading_job_log/{COURSE}/{job}", token=token_of(COURSE))
        found: dict[str, Any] | None = answer.json()["data"] if answer.is_success else None
        return found

    stored = await until(log)
    access = ("--server", str(cluster.client.http.base_url), "--course", COURSE, "--token", token_of(COURSE))
    for more in ((), ("--attempt", "1"), ("-f",)):
        shown = await broadway("job", "log", job, *access, *more)
        assert shown.exit_code == 0
        assert [line.rpartition("Z ")[2] for line in shown.stdout.splitlines()] == ["of the first", "of the second"]
        assert shown.stderr.startswith("[stage 1]\n[stage 2]\n")
        assert more or stored == {"stdout": shown.stdout, "stderr": ""}
    found = await cluster.client.get(f"courses/{COURSE}/jobs/{job}", token=token_of(COURSE), version="v2")
    assert (found.json()["outcome"], found.json()["reason"]) == ("cancelled", "cancelled by the course staff")


async def test_failed_jobs_run_again_and_then_the_post_processing(cluster: Cluster) -> None:
    containers = cluster.graders.start("host1")
    failing = [stage("env", "STUDENT_ID"), stage("fault", "create")]
    await cluster.client.register(COURSE, "mp1", students=failing, **POST)
    run_id = await cluster.client.submit(COURSE, "mp1", students=2)
    first = await cluster.client.finished(COURSE, run_id)
    assert [job["outcome"] for job in first["jobs"]] == ["infrastructure_error"] * 2 + ["succeeded"]
    before = len(containers.started)

    result = await carried_out(cluster, f"runs/{run_id}/rerun", {"jobs": "failed"})
    assert (result["state"], result["round"], result["jobs"]) == (
        "students",
        2,
        [job["id"] for job in first["jobs"][:2]],
    )
    again = await cluster.client.finished(COURSE, run_id)
    assert [(job["outcome"], job["attempts"]) for job in again["jobs"]] == [
        ("infrastructure_error", 3),
        ("infrastructure_error", 3),
        ("succeeded", 1),
    ], "each round has all its attempts, and its own post-processing"
    assert len(containers.started) == 2 * before


async def test_a_whole_run_starts_over(cluster: Cluster) -> None:
    containers = cluster.graders.start("host1")
    pre = {"pre_processing_pipeline": [stage("exit", "0")]}
    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "0")], **pre, **POST)
    run_id = await cluster.client.submit(COURSE, "mp1", students=3)
    await cluster.client.finished(COURSE, run_id)
    assert await refusal(cluster, f"runs/{run_id}/rerun", {"jobs": "failed"}) == (
        409,
        "no job of this run has failed",
    )

    result = await carried_out(cluster, f"runs/{run_id}/rerun")
    assert result["state"] == "pre-processing"
    run = await cluster.client.finished(COURSE, run_id)
    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * 5
    assert len(containers.started) == 2 * 5


async def test_a_rerun_uses_the_config_of_its_run_unless_it_asks_for_the_current_one(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "1")])
    run_id = await cluster.client.submit(COURSE, "mp1", students=2)
    await cluster.client.finished(COURSE, run_id)
    assert (await carried_out(cluster, f"runs/{run_id}/rerun", {"jobs": "failed"}))["is_config_current"] is True
    await cluster.client.finished(COURSE, run_id)

    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "0")], **POST)
    assert (await carried_out(cluster, f"runs/{run_id}/rerun"))["is_config_current"] is False
    kept = await cluster.client.finished(COURSE, run_id)
    assert [job["outcome"] for job in kept["jobs"]] == ["failed"] * 2

    corrected = {"jobs": [kept["jobs"][0]["id"]], "config": "current"}
    assert (await carried_out(cluster, f"runs/{run_id}/rerun", corrected))["is_config_current"] is True
    corrected_run = await cluster.client.finished(COURSE, run_id)
    assert [job["outcome"] for job in corrected_run["jobs"]] == ["succeeded", "failed", "succeeded"]

    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "2")], **POST)
    await carried_out(cluster, f"runs/{run_id}/rerun")
    again = await cluster.client.finished(COURSE, run_id)
    assert [job["outcome"] for job in again["jobs"]] == ["succeeded"] * 3, "the run has kept the corrected config"
    late = await order(cluster, f"jobs/{again['jobs'][0]['id']}/rerun", {"config": "newest"})
    assert (late.status_code, "config" in late.json()["detail"]) == (400, True)


async def test_a_job_starts_over_while_it_runs_and_while_its_run_post_processes(cluster: Cluster) -> None:
    containers = cluster.graders.start("host1", slots=3)
    await cluster.client.register(
        COURSE, "mp1", students=[stage("sleep", "0.2")], post_processing_pipeline=[stage("hang", timeout=600)]
    )
    run_id = await cluster.client.submit(COURSE, "mp1", students=2)

    async def post_processes() -> bool:
        return (await cluster.client.describe(COURSE, run_id))["jobs"][-1]["phase"] == "post-processing"

    await until(post_processes)
    _, second, post = await running(cluster, run_id)
    result = await carried_out(cluster, f"jobs/{second['id']}/rerun")
    assert result["state"] == "students"
    assert await outcomes(cluster, run_id) == ["succeeded", None, "cancelled"]

    async def post_processes_again() -> bool:
        return (await cluster.client.describe(COURSE, run_id))["jobs"][-1]["state"] == "running"

    await until(post_processes_again)
    await carried_out(cluster, f"jobs/{post['id']}/rerun")
    await until(lambda: len(containers.started) == 2 + 1 + 1 + 1 + 1)
    await carried_out(cluster, f"runs/{run_id}/cancel")
    await until(lambda: is_quiet(cluster))
    assert await outcomes(cluster, run_id) == ["succeeded", "succeeded", "cancelled"]


async def test_a_cancelled_run_can_start_over(cluster: Cluster) -> None:
    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "0")], **POST)
    run_id = await cluster.client.submit(COURSE, "mp1", students=3)
    await carried_out(cluster, f"runs/{run_id}/cancel")

    await carried_out(cluster, f"runs/{run_id}/rerun", {"jobs": "failed"})
    cluster.graders.start("host1")
    run = await cluster.client.finished(COURSE, run_id)
    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * 4


@pytest.mark.parametrize("kind", OrderKind)
async def test_an_order_is_carried_out_after_the_death_of_its_service(cluster: Cluster, kind: OrderKind) -> None:
    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit(COURSE, "mp1", students=2)
    store = cluster.opened.store
    run = await store.runs.summary(run_id)
    assert run
    jobs = tuple((job.id, job.generation) for job in await store.jobs.of_run(run_id))
    requested, now = Order(kind, "because", jobs), datetime.now(UTC)
    assert await store.runs.give_order(run, requested, RunState.STUDENTS, publish_at=now)
    assert not await store.runs.give_order(run, requested, RunState.STUDENTS, publish_at=now)

    async def is_carried_out() -> bool:
        summary = await store.runs.summary(run_id)
        return summary is not None and summary.order is None

    await until(is_carried_out)
    cluster.graders.start("host1")
    finished = await cluster.client.finished(COURSE, run_id)
    expected = {OrderKind.CANCEL: "cancelled", OrderKind.SUPERSEDE: "superseded"}.get(kind, "succeeded")
    assert [job["outcome"] for job in finished["jobs"]] == [expected] * 2
    assert {job.generation for job in await store.jobs.of_run(run_id)} == {2}


async def test_invalid_orders_are_refused(cluster: Cluster) -> None:
    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit(COURSE, "mp1", students=1)
    unknown = "0123456789abcdef01234567"
    no_run = (404, "grading run with the given ID not found")
    no_job = (404, "grading job with the given ID not found")

    for verb in ("cancel", "rerun"):
        assert await refusal(cluster, f"runs/{unknown}/{verb}") == no_run
        assert await refusal(cluster, f"runs/{run_id}/{verb}", course="cs101") == no_run
        assert await refusal(cluster, f"jobs/{unknown}/{verb}") == no_job
        assert (await refusal(cluster, f"runs/{run_id}/{verb}", {"odd": 1}))[0] == 400
    assert await refusal(cluster, f"runs/{run_id}/rerun", {"jobs": [unknown]}) == (404, "the run has no such job")
    assert (await refusal(cluster, f"runs/{run_id}/rerun", {"jobs": "some"}))[1].startswith("jobs")
    assert (await refusal(cluster, f"runs/{run_id}/cancel", {"reason": ""}))[1].startswith("reason")


async def test_repeated_submissions_with_one_key_make_one_run(cluster: Cluster) -> None:
    await cluster.client.register(COURSE, "mp1", students=[stage("exit", "0")])
    headers = {"Authorization": f"Bearer {token_of(COURSE)}", "Idempotency-Key": '"night-of-the-deadline"'}

    async def submit(students: int, *, course: str = COURSE, key: str | None = None) -> httpx2.Response:
        body = {"students_env": [{"STUDENT_ID": f"s{n}"} for n in range(students)]}
        more = {"Authorization": f"Bearer {token_of(course)}"} | ({"Idempotency-Key": key} if key is not None else {})
        return await cluster.client.http.post(f"/api/v1/grading_run/{course}/mp1", json=body, headers=headers | more)

    answers = await asyncio.gather(*(submit(3) for _ in range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    (run_id,) = {answer.json()["data"]["grading_run_id"] for answer in answers}
    assert (await submit(3, key="night-of-the-deadline")).json()["data"]["grading_run_id"] == run_id
    assert len((await cluster.client.status(COURSE, run_id))["student_jobs_state"]) == 3

    assert (await submit(4)).status_code == 422
    assert (await submit(3, key="")).status_code == 400
    assert (await submit(3, key="x" * 256)).status_code == 400
    await cluster.client.register("cs101", "mp1", students=[stage("exit", "0")])
    other = await submit(3, course="cs101")
    assert other.json()["data"]["grading_run_id"] != run_id, "courses do not share keys"

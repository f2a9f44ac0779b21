"""Each kind of outcome, through the whole system."""

import asyncio
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest
from harness import Cluster, stage, until

from broadway.domain.job import Outcome
from broadway.messages.events import JobFinished
from broadway.messages.topology import EVENTS, event_key


@pytest.mark.parametrize(
    ("command", "more", "outcome", "why"),
    [
        (("exit", "3"), {}, "failed", "stage 1 of 2: exit code 3"),
        (("hang",), {"timeout": 0.2}, "timed_out", "stage 1 of 2: ran longer than its time limit"),
        (("oom",), {}, "out_of_memory", "stage 1 of 2: used more memory than its limit"),
        (("flood",), {}, "output_limit", "stage 1 of 2: wrote more output than its limit (0 bytes)"),
    ],
)
async def test_a_failing_stage_ends_its_own_job_only(
    cluster: Cluster, command: tuple[str, ...], more: dict[str, object], outcome: str, why: str
) -> None:
    containers = cluster.graders.start("host1")
    await cluster.client.register("cs241", "mp1", students=[stage(*command, **more), stage("exit", "0")])

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=2))

    assert [(job["outcome"], job["reason"], job["attempts"]) for job in run["jobs"]] == [(outcome, why, 1)] * 2
    assert run["state"] == "finished", "students who fail do not fail the run"
    assert len(containers.started) == 2


@pytest.mark.parametrize("phase", ["pre_processing_pipeline", "post_processing_pipeline"])
async def test_a_failing_phase_of_the_course_fails_the_run(cluster: Cluster, phase: str) -> None:
    cluster.graders.start("host1")
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")], **{phase: [stage("exit", "1")]})

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=2))

    assert run["state"] == "failed"
    assert run["success"] is False
    expected = ["failed"] if phase.startswith("pre") else ["succeeded", "succeeded", "failed"]
    assert [job["outcome"] for job in run["jobs"]] == expected
    *_, last = run["phases"]
    why = "stage 1 of 1: exit code 1"
    assert (last["state"], last["outcomes"], last["reason"]) == ("finished", {"failed": 1}, why)
    assert run["reason"] == f"{last['phase']}: {why}"
    assert run["started_at"] <= last["queued_at"] <= last["started_at"] <= last["finished_at"] <= run["finished_at"]
    assert run["jobs"][-1]["finished_at"] == last["finished_at"]


async def test_a_run_with_an_empty_roster_continues_at_once(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    await cluster.client.register(
        "cs241", "mp1", students=[stage("exit", "0")], post_processing_pipeline=[stage("print", "report")]
    )

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=0))

    assert run["state"] == "finished"
    assert [job["phase"] for job in run["jobs"]] == ["post-processing"]


async def test_a_missing_image_is_named_and_the_job_is_not_retried(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    await cluster.client.register("cs241", "mp1", students=[{"image": "missing/image:1"}])

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))

    (job,) = run["jobs"]
    assert (job["outcome"], job["fault_phase"], job["attempts"]) == ("infrastructure_error", "pull", 1)
    assert "missing/image:1" in job["reason"]
    log = await cluster.client.get(f"grading_job_log/cs241/{job['id']}", token="staff-241")
    assert "missing/image:1" in log.json()["data"]["stderr"]


async def test_a_job_with_engine_failures_is_retried_elsewhere_and_then_fails(cluster: Cluster) -> None:
    first, second = cluster.graders.start("host1", slots=1), cluster.graders.start("host2", slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("fault", "start")])

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))

    (job,) = run["jobs"]
    assert (job["outcome"], job["fault_phase"], job["attempts"]) == ("infrastructure_error", "start", 3)
    assert len(first.started) + len(second.started) == 3
    assert first.started, "the attempts were made on both"
    assert second.started


async def test_stages_without_logs_leave_no_output(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    await cluster.client.register(
        "cs241", "mp1", students=[stage("print", "secret", logs=False), stage("print", "shown")]
    )

    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))

    log = await cluster.client.get(f"grading_job_log/cs241/{run['jobs'][0]['id']}", token="staff-241")
    assert "shown" in log.json()["data"]["stdout"]
    assert "secret" not in log.json()["data"]["stdout"]


async def test_graders_are_listed_and_report_when_they_leave(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=3))
    await cluster.graders.stop("host1")

    async def is_gone() -> bool:
        answer = await cluster.client.get("worker/cs241/all", token="staff-241")
        (worker,) = answer.json()["data"]["worker_nodes"]
        return (worker["alive"], worker["busy"], worker["jobs_processed"]) == (False, False, 3)

    await until(is_gone)


async def test_a_job_of_a_stuck_grader_ends_elsewhere(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadway.grader.worker.worker.ALLOWANCE", timedelta(seconds=1))
    stuck = cluster.graders.start("stuck", slots=1)
    stuck.is_stuck = True
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0", timeout=1)])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    await until(lambda: stuck.started)
    cluster.graders.start("well", slots=1)

    run = await cluster.client.finished("cs241", run_id)

    (job,) = run["jobs"]
    assert (job["outcome"], job["attempts"], job["grader"]) == ("succeeded", 2, "well")
    first = (await cluster.opened.store.jobs.get_many([job["id"]]))[job["id"]].attempts[0]
    assert first.reason == "wait: the grader did not come to an end within 2 s"


def finished(job: dict[str, Any], run_id: str, **more: Any) -> JobFinished:
    """Return a grader's report of a job that it was never given."""
    now = datetime.now(UTC)
    return JobFinished(
        course="cs241",
        assignment="mp1",
        run_id=run_id,
        job_id=job["id"],
        generation=1,
        execution_id=token_hex(12),
        grader_id="host1",
        started_at=now,
        finished_at=now,
        outcome=Outcome.FAILED,
        reason="stage 1 of 1: exit code 3",
        stdout="said",
        **more,
    )


@pytest.mark.parametrize(
    ("results", "why"),
    [([{"result": [1] * 1_500_000}], "16777216"), ([{"result": 2**70}], "8-byte ints")],
    ids=["large as a document, though not as a message", "a number without a form"],
)
async def test_a_job_keeps_its_outcome_when_its_results_cannot_be_stored_and_so_do_its_neighbors(
    cluster: Cluster, results: list[dict[str, Any]], why: str
) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "3")])
    run_id = await cluster.client.submit("cs241", "mp1", students=3)
    bad, *good = (await cluster.client.describe("cs241", run_id))["jobs"]
    reports = [finished(bad, run_id, results=results), *(finished(job, run_id) for job in good)]

    publish = cluster.opened.rabbit.publish
    await asyncio.gather(*(publish(EVENTS, event_key("job", "finished", "cs241"), report) for report in reports))
    run = await cluster.client.finished("cs241", run_id)

    assert [(job["outcome"], job["attempts"]) for job in run["jobs"]] == [("failed", 1)] * 3
    reasons = {job["id"]: job["reason"] for job in run["jobs"]}
    assert {reasons[job["id"]] for job in good} == {"stage 1 of 1: exit code 3"}
    assert reasons[bad["id"]].startswith("stage 1 of 1: exit code 3; the results cannot be stored: ")
    assert why in reasons[bad["id"]]
    log = await cluster.client.get(f"grading_job_log/cs241/{bad['id']}", token="staff-241")
    assert log.json()["data"]["stdout"] == "said"
    assert await cluster.opened.store.dead_letters.count() == 0

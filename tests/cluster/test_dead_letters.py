"""Operators see the messages that no service could handle, and discard them when the cause is repaired."""

import json
from typing import Any

import pytest
from crashing import Crash
from harness import Cluster, Command, broadway, stage

from broadway.domain.letter import Letter
from broadway.ingest.v2.views.dead_letters import MAX_LETTER
from broadway.messages.batches import JobsFinished
from broadway.messages.envelope import decode_dead_letter, encode
from broadway.messages.events import Event, JobDispatched, JobFinished
from broadway.results.dead_letters import file_dead_letter
from broadway.runtime.crashpoints import Point

TOKEN = {"Authorization": "Bearer operator-token"}


async def dead(cluster: Cluster, *arguments: str, token: str = "operator-token") -> Command:
    return await broadway("dead", *arguments, "--server", str(cluster.client.http.base_url), "--token", token)


@pytest.fixture
async def letters(cluster: Cluster) -> list[dict[str, Any]]:
    """Two dead letters, latest first; one of them was rejected twice."""
    put = cluster.opened.store.dead_letters.put
    for body in (b"\xff\0", b"\xff"):
        await put(message_id="m/1", subject="cs1/r/j1", queue="broadway.results", reason="no UTF-8", body=body)
    await put(message_id="m/1", subject="cs1/r/j2", queue="broadway.dispatcher", reason="too odd", body=b"x" * 70_000)
    answer = await cluster.client.http.get("/api/v2/dead-letters", headers=TOKEN)
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_dead_letters_are_listed_latest_first(letters: list[dict[str, Any]]) -> None:
    assert [(each["queue"], each["subject"], each["reason"], each["count"]) for each in letters] == [
        ("broadway.dispatcher", "cs1/r/j2", "too odd", 1),
        ("broadway.results", "cs1/r/j1", "no UTF-8", 2),
    ]
    assert letters[1]["body"] == "\ufffd"
    assert len(letters[0]["body"]) == MAX_LETTER
    assert letters[1]["first_at"] < letters[1]["last_at"]


async def test_the_commands_list_show_and_discard(cluster: Cluster, letters: list[dict[str, Any]]) -> None:
    listed = await dead(cluster, "list")
    assert listed.exit_code == 0
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == ["id", *(each["id"] for each in letters)]
    assert len(json.loads((await dead(cluster, "list", "--json", "--limit", "1")).stdout)) == 1

    shown = await dead(cluster, "show", letters[1]["id"], "--json")
    assert json.loads(shown.stdout) == letters[1]

    assert (await dead(cluster, "discard", "--yes", letters[1]["id"])).stdout == "1 dead letters discarded\n"
    gone = await dead(cluster, "show", letters[1]["id"])
    assert gone.exit_code == 1
    assert "no dead letter of that id is kept" in gone.stderr
    assert (await dead(cluster, "discard", "--all", "--yes")).stdout == "1 dead letters discarded\n"
    assert (await dead(cluster, "list")).stdout.splitlines()[1:] == []


async def killed_by_letter(cluster: Cluster, *, jobs: int) -> tuple[str, Letter]:
    """Let jobs of a run end by a dead letter, of one dispatched job or of a batch of outcomes; return both."""
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=jobs + 1)
    ids = sorted(job["id"] for job in (await cluster.client.describe("cs241", run_id))["jobs"])[:jobs]
    event = dead_event(run_id, ids)
    wire = encode(event, source="/broadway/dispatcher")
    headers = {**wire.headers, "x-death": [{"queue": "broadway.ready.default", "reason": "rejected"}]}
    store, rabbit = cluster.opened.store, cluster.opened.rabbit
    letter = decode_dead_letter(headers, wire.body, "broadway")
    await file_dead_letter(letter, jobs=store.jobs, letters=store.dead_letters, publisher=rabbit)
    (kept,) = await store.dead_letters.latest(2)
    return run_id, kept


async def generations(cluster: Cluster, run_id: str) -> dict[str, int]:
    ids = [job["id"] for job in (await cluster.client.describe("cs241", run_id))["jobs"]]
    return {job.id: job.generation for job in (await cluster.opened.store.jobs.get_many(ids)).values()}


def dead_event(run_id: str, ids: list[str]) -> Event:
    of_jobs = [{"course": "cs241", "run_id": run_id, "job_id": job_id, "generation": 1} for job_id in ids]
    if len(ids) == 1:
        return JobDispatched(**of_jobs[0], assignment="mp1", phase="students", attempt=1, stages=[])
    times = {"started_at": "2026-11-30T10:00:00Z", "finished_at": "2026-11-30T10:00:01Z"}
    ended = {**times, "grader_id": "host9", "outcome": "failed"}
    return JobsFinished(
        parts=[JobFinished.model_validate({**job, **ended, "execution_id": f"e-{job['job_id']}"}) for job in of_jobs]
    )


@pytest.mark.parametrize("jobs", [1, 3])
async def test_a_retry_runs_the_jobs_again_that_ended_by_the_letter_once(cluster: Cluster, jobs: int) -> None:
    run_id, letter = await killed_by_letter(cluster, jobs=jobs)
    before = (await cluster.client.describe("cs241", run_id))["jobs"]
    killed = {job["id"] for job in before if job["outcome"] == "infrastructure_error"}
    assert len(killed) == jobs

    first = await dead(cluster, "retry", letter.id, "--yes", "--json")
    again = await dead(cluster, "retry", letter.id, "--yes")

    assert first.exit_code == 0, first.stderr
    (result,) = json.loads(first.stdout)
    assert ({*result["jobs"]}, result["unchanged"], result["refused"]) == (killed, [], [])
    assert again.exit_code == 1
    assert "no dead letter of that id is kept" in again.stderr
    cluster.graders.start("host1")
    after = (await cluster.client.finished("cs241", run_id))["jobs"]
    assert {job["outcome"] for job in after} == {"succeeded"}
    assert await generations(cluster, run_id) == {job["id"]: 2 if job["id"] in killed else 1 for job in before}


async def test_a_letter_about_no_job_is_refused_and_stays(cluster: Cluster, letters: list[dict[str, Any]]) -> None:
    refused = await dead(cluster, "retry", "--all", "--yes")
    assert refused.exit_code == 1
    assert refused.stderr.count("the dead letter is about no job that is kept") == len(letters)
    assert f"broadway dead discard {letters[0]['id']}" in refused.stderr
    assert await cluster.opened.store.dead_letters.count() == len(letters)
    wrong = await dead(cluster, "retry")
    assert (wrong.exit_code, "name dead letters, or say --all" in wrong.stderr) == (2, True)


async def test_a_retry_that_dies_before_it_removes_the_letter_is_repeated_without_harm(
    cluster: Cluster, crash: Crash
) -> None:
    run_id, letter = await killed_by_letter(cluster, jobs=1)
    crash(Point.LETTER_RERUN)
    died = await cluster.client.http.post(f"/api/v2/dead-letters/{letter.id}/retry", headers=TOKEN)
    assert died.status_code == 500
    cluster.graders.start("host1")
    await cluster.client.finished("cs241", run_id)

    repeated = await cluster.client.http.post(f"/api/v2/dead-letters/{letter.id}/retry", headers=TOKEN)

    assert (repeated.status_code, repeated.json()["jobs"], len(repeated.json()["unchanged"])) == (200, [], 1)
    assert await cluster.opened.store.dead_letters.count() == 0
    assert sorted((await generations(cluster, run_id)).values()) == [1, 2]


@pytest.mark.parametrize("arguments", [["discard"], ["discard", "--all", "x"]])
async def test_nothing_is_discarded_by_mistake(
    cluster: Cluster, letters: list[dict[str, Any]], arguments: list[str]
) -> None:
    refused = await dead(cluster, *arguments)
    assert refused.exit_code == 2
    assert "name dead letters, or say --all" in refused.stderr
    assert await cluster.opened.store.dead_letters.count() == len(letters)


@pytest.mark.parametrize("path", ["/api/v2/dead-letters", "/api/v2/dead-letters/x", "/api/v2/graders"])
async def test_a_courses_token_is_not_enough(cluster: Cluster, path: str) -> None:
    answer = await cluster.client.http.get(path, headers={"Authorization": "Bearer staff-241"})
    assert answer.status_code == 401
    assert (await dead(cluster, "list", token="staff-241")).exit_code == 4


async def test_an_unknown_dead_letter_is_not_found(cluster: Cluster) -> None:
    for method in ("GET", "DELETE"):
        answer = await cluster.client.http.request(method, "/api/v2/dead-letters/nope", headers=TOKEN)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "no dead letter of that id is kept"
    again = await cluster.client.http.post("/api/v2/dead-letters/nope/retry", headers=TOKEN)
    assert again.status_code == 404
    wrong = await cluster.client.http.get("/api/v2/dead-letters?limit=0", headers=TOKEN)
    assert wrong.status_code == 400
    assert "limit" in wrong.json()["detail"]

"""A class whose every other submission is hostile: all get the correct outcomes. `make bench` measures the time."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest
from harness import IS_WHOLE, Client, Place, free_port, token_of, until
from hostile.attacks import ATTACKS, FLAGS, mixed, pipeline, roster
from hostile.corpus import SECRET
from processes import CLUSTER_TOKEN, QUICK_DISPATCHER, processes
from servers import Node

from broadway.messages.topology import DEAD, DISPATCHER, RESULTS, UNROUTED_FACTS

COURSE = "cs241"
STUDENTS = (4 if IS_WHOLE else 2) * len(ATTACKS)
SLOTS = 2
HOSTS = ("host1", "host2")


@pytest.mark.timeout(300)
async def test_honest_students_of_a_half_hostile_class_succeed(
    place: Place, broker_node: Node, docker_host: str, hostile_image: str, api: docker.APIClient, tmp_path: Path
) -> None:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({COURSE: {"tokens": [token_of(COURSE)]}}))
    port = free_port()
    kinds = mixed(STUDENTS)
    async with processes(tmp_path / "host", {**place.environment, "DOCKER_HOST": docker_host}) as running:
        await running.service(
            "api",
            "--token",
            CLUSTER_TOKEN,
            "--course-config",
            str(courses),
            "--bind-port",
            str(port),
            *QUICK_DISPATCHER,
        )
        async with Client.connect(f"http://localhost:{port}") as client:
            await until(client.is_ready)
            for name in HOSTS:
                command = ("-m", "broadway.grader", CLUSTER_TOKEN, name, "--api-host", f"http://localhost:{port}")
                work = str(tmp_path / name)
                await running.start(
                    name,
                    *(sys.executable, *command, "--slots", str(SLOTS), "--work-dir", work, *FLAGS),
                    without="BROADWAY_AMQP_URL",
                )
            await client.register(COURSE, "mp1", students=pipeline(hostile_image), env={"SECRET": SECRET})
            await until(partial(_have_joined, client))
            run_id = await client.submit(COURSE, "mp1", 0, students_env=roster(kinds))
            run = await client.finished(COURSE, run_id, within=200)
            jobs = [await _job(client, job["id"]) for job in run["jobs"]]
            await until(partial(_are_drained, broker_node, place))

    assert api.containers(all=True, filters={"label": "io.broadway.grader"}) == []
    for job, kind in zip(jobs, kinds, strict=True):
        assert [each["outcome"] for each in job["executions"]] == [job["outcome"]], "one start, and what it came to"
        assert job["attempts"] == 1
        if kind == "honest":
            assert (job["outcome"], job["score"]) == ("succeeded", 1.0)
            assert all(stage["usage"]["image"].startswith("sha256:") for stage in job["stages"])
        else:
            assert job["outcome"] in ATTACKS[kind].outcomes, (kind, job["outcome"], job["reason"])
            assert job["score"] == ATTACKS[kind].score
    assert {job["grader"] for job in jobs} == set(HOSTS)
    assert SECRET not in "".join(job["reason"] + str(job["results"]) for job in jobs)


async def _have_joined(client: Client) -> bool:
    answer = await client.get(f"worker/{COURSE}/all", token=token_of(COURSE))
    return sum(worker["alive"] for worker in answer.json()["data"]["worker_nodes"]) == len(HOSTS)


async def _are_drained(broker: Node, place: Place) -> bool:
    """Return True if all queues are empty, the dead letters too, apart from the queue of unrouted facts."""
    auth = (broker.username, broker.password)
    async with httpx2.AsyncClient(base_url=broker.management_url, auth=auth) as management:
        totals = {"disable_stats": True, "enable_queue_totals": True}
        queues = (await management.get(f"/api/queues/{place.name}", params=totals)).raise_for_status().json()
    assert {DEAD.name, RESULTS.name, DISPATCHER.name} <= {queue["name"] for queue in queues}
    waiting = {queue["name"]: queue["messages"] for queue in queues if queue["messages"]}
    print(waiting)
    return waiting.keys() <= {UNROUTED_FACTS.name}


async def _job(client: Client, job_id: str) -> dict[str, Any]:
    answer = await client.get(f"courses/{COURSE}/jobs/{job_id}", token=token_of(COURSE), version="v2")
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job

"""A class half of which is hostile: the honest half gets what it deserves, and does not wait for the others."""

import json
import sys
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest
from harness import Client, Place, free_port, token_of, until
from hostile.corpus import JUDGE, SECRET, SETUP
from processes import CLUSTER_TOKEN, QUICK_DISPATCHER, processes

from broadway.local.broker import Broker
from broadway.messages.topology import DEAD, DISPATCHER, RESULTS, UNROUTED_FACTS

COURSE = "cs241"
STUDENTS = 60
SLOTS = 2
WORK = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; cp /job/submission/answer /job/out/answer"
LIMIT = 2  # seconds


@dataclass(frozen=True)
class Attack:
    """What a hostile submission does, which outcomes are right, and what it scores; whether it has to be stopped."""

    script: str
    outcomes: AbstractSet[str]
    score: float | None = None
    is_endless: bool = False


ATTACKS = {
    "loop": Attack("while :; do :; done", {"timed_out"}, is_endless=True),
    # It may also run into its own limits before its time is over.
    "fork": Attack(
        "bomb() { bomb | bomb & }; bomb; sleep 100", {"timed_out", "failed", "out_of_memory"}, is_endless=True
    ),
    "flood": Attack("yes", {"output_limit"}),
    "fill": Attack(
        "while :; do dd if=/dev/zero of=/job/out/$$.$((i=i+1)) bs=1M count=4 2>/dev/null || exit 1; done", {"failed"}
    ),
    "forge": Attack(
        "echo '{\"score\": 1}' >/job/out/results.json; ln -s /job/tests/expected /job/out/answer; exit 0",
        {"succeeded"},
        score=0.0,
    ),
    "daemon": Attack("(setsid sleep 1000 &); exit 3", {"failed"}),
}


def pipeline(image: str) -> list[dict[str, Any]]:
    common = {"image": image, "memory": "64m", "timeout": 30, "networking": False}
    scripts = {name: attack.script for name, attack in ATTACKS.items()} | {"honest": WORK}
    cases = "".join(f"{name}) {script} ;;\n" for name, script in scripts.items())
    script = f'case "$KIND" in\n{cases}esac'
    untrusted = {"untrusted": True, "read": ["submission"], "write": ["out"], "inherit": ["KIND"], "timeout": LIMIT}
    return [
        {**common, "entrypoint": ["sh", "-c", SETUP]},
        {"image": image, "memory": "64m", "entrypoint": ["sh", "-c", script], **untrusted},
        {**common, "entrypoint": ["sh", "-c", JUDGE], "results": "results.json"},
    ]


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_half_of_a_class_is_hostile(
    place: Place, broker_node: Broker, docker_host: str, hostile_image: str, api: docker.APIClient, tmp_path: Path
) -> None:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({COURSE: {"tokens": [token_of(COURSE)]}}))
    port = free_port()
    kinds = [list(ATTACKS)[number // 2 % len(ATTACKS)] if number % 2 else "honest" for number in range(STUDENTS)]
    flags = ("--output-limit", "262144", "--job-size", "16m", "--file-size", "8m", "--pids-limit", "64")
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
            for name in ("host1", "host2"):
                command = ("-m", "broadway.grader", CLUSTER_TOKEN, name, "--api-host", f"http://localhost:{port}")
                work = str(tmp_path / name)
                await running.start(
                    name,
                    *(sys.executable, *command, "--slots", str(SLOTS), "--work-dir", work, *flags),
                    without="BROADWAY_AMQP_URL",
                )
            await client.register(COURSE, "mp1", students=pipeline(hostile_image), env={"SECRET": SECRET})
            alone = await _graded(client, ["honest"] * (STUDENTS // 2))
            singly = {kind: await _seconds_alone(client, kind) for kind in ATTACKS}
            mixed = await _graded(client, kinds)
            jobs = [await _job(client, job["id"]) for job in mixed.run["jobs"]]
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
    assert {job["grader"] for job in jobs} == {"host1", "host2"}
    assert SECRET not in "".join(job["reason"] + str(job["results"]) for job in jobs)
    # What hostile jobs need by themselves: until they end alone on the machine, or until their own time limit.
    starting = singly["daemon"]
    needed = {kind: starting + LIMIT if ATTACKS[kind].is_endless else singly[kind] for kind in ATTACKS}
    hostile = sum(needed[kind] for kind in kinds if kind != "honest") / (2 * SLOTS)
    assert mixed.seconds <= 1.3 * (alone.seconds + hostile), (mixed.seconds, alone.seconds, hostile, singly)


class Graded:
    def __init__(self, run: dict[str, Any], seconds: float) -> None:
        self.run = run
        self.seconds = seconds


async def _graded(client: Client, kinds: list[str]) -> Graded:
    begun = time.monotonic()
    roster = [{"STUDENT_ID": f"s{number}", "KIND": kind} for number, kind in enumerate(kinds)]
    run_id = await client.submit(COURSE, "mp1", 0, students_env=roster)
    return Graded(await client.finished(COURSE, run_id, within=200), time.monotonic() - begun)


async def _seconds_alone(client: Client, kind: str) -> float:
    """How long a job takes that is the only one."""
    (job,) = (await _graded(client, [kind])).run["jobs"]
    seconds: float = (await _job(client, job["id"]))["seconds"]
    return seconds


async def _are_drained(broker: Broker, place: Place) -> bool:
    """Whether no queue has a message, that of the dead neither; but for the facts that nobody asks for."""
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

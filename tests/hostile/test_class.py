"""A class half of which is hostile: the honest half gets what it deserves, and does not wait for the others."""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import pytest
from harness import Client, Place, free_port, token_of, until
from hostile.corpus import JUDGE, SECRET, SETUP
from processes import QUICK_DISPATCHER, processes

TOKEN = "cluster-token-7f3a9c"
COURSE = "cs241"
STUDENTS = 60
SLOTS = 2
WORK = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; cp /job/submission/answer /job/out/answer"
LIMIT = 2  # seconds
ATTACKS = {
    "loop": "while :; do :; done",
    "fork": "bomb() { bomb | bomb & }; bomb; sleep 100",
    "flood": "yes",
    "fill": "while :; do dd if=/dev/zero of=/job/out/$$.$((i=i+1)) bs=1M count=4 2>/dev/null || exit 1; done",
    "forge": "echo '{\"score\": 1}' >/job/out/results.json; ln -s /job/tests/expected /job/out/answer; exit 0",
    "daemon": "(setsid sleep 1000 &); exit 3",
}


def pipeline(image: str) -> list[dict[str, Any]]:
    common = {"image": image, "memory": "64m", "timeout": 30, "networking": False}
    cases = "".join(f"{name}) {script} ;;\n" for name, script in {**ATTACKS, "honest": WORK}.items())
    script = f'case "$KIND" in\n{cases}esac'
    untrusted = {"untrusted": True, "read": ["submission"], "write": ["out"], "inherit": ["KIND"], "timeout": LIMIT}
    return [
        {**common, "entrypoint": ["sh", "-c", SETUP]},
        {"image": image, "memory": "64m", "entrypoint": ["sh", "-c", script], **untrusted},
        {**common, "entrypoint": ["sh", "-c", JUDGE], "results": "results.json"},
    ]


@pytest.mark.timeout(300)
async def test_half_of_a_class_is_hostile(
    place: Place, docker_host: str, hostile_image: str, api: docker.APIClient, tmp_path: Path
) -> None:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({COURSE: {"tokens": [token_of(COURSE)]}}))
    port = free_port()
    kinds = [list(ATTACKS)[number // 2 % len(ATTACKS)] if number % 2 else "honest" for number in range(STUDENTS)]
    flags = ("--output-limit", "262144", "--job-size", "16m", "--file-size", "8m", "--pids-limit", "64")
    async with processes(tmp_path / "host", {**place.environment, "DOCKER_HOST": docker_host}) as running:
        await running.service(
            "api", "--token", TOKEN, "--course-config", str(courses), "--bind-port", str(port), *QUICK_DISPATCHER
        )
        async with Client.connect(f"http://localhost:{port}") as client:
            await until(client.is_ready)
            for name in ("host1", "host2"):
                command = ("-m", "broadway.grader", TOKEN, name, "--api-host", f"http://localhost:{port}")
                work = str(tmp_path / name)
                await running.start(
                    name,
                    *(sys.executable, *command, "--slots", str(SLOTS), "--work-dir", work, *flags),
                    without="BROADWAY_AMQP_URL",
                )
            await client.register(COURSE, "mp1", students=pipeline(hostile_image), env={"SECRET": SECRET})
            alone = await _graded(client, ["honest"] * (STUDENTS // 2))
            mixed = await _graded(client, kinds)
            jobs = [await _job(client, job["id"]) for job in mixed.run["jobs"]]

    assert api.containers(all=True, filters={"label": "io.broadway.grader"}) == []
    password = urlsplit(place.amqp_url).password
    told = "".join(path.read_text(errors="replace") for path in (tmp_path / "host").rglob("*.log")) + json.dumps(jobs)
    assert "finished" in told
    for secret in (TOKEN, token_of(COURSE), password):
        assert secret
        assert secret not in told, "a secret is in a log or a result"
    assert SECRET not in "".join(job["reason"] + str(job["results"]) for job in jobs)
    honest = [job for job, kind in zip(jobs, kinds, strict=True) if kind == "honest"]
    assert {(job["outcome"], job["score"]) for job in honest} == {("succeeded", 1.0)}
    others = [(kind, job) for job, kind in zip(jobs, kinds, strict=True) if kind != "honest"]
    assert {job["score"] for _, job in others} <= {None, 0.0}
    assert Counter(kind for kind, job in others if job["outcome"] == "timed_out")["loop"] == kinds.count("loop")
    assert all(job["outcome"] != "infrastructure_error" for job in jobs)
    assert all(stage["usage"]["image"].startswith("sha256:") for job in honest for stage in job["stages"])
    # The hostile half may take its own time limits, and what starting its containers takes.
    hostile = sum(job["seconds"] for _, job in others) / (2 * SLOTS)
    assert mixed.seconds <= 1.3 * (alone.seconds + hostile), (mixed.seconds, alone.seconds, hostile)


class Graded:
    def __init__(self, run: dict[str, Any], seconds: float) -> None:
        self.run = run
        self.seconds = seconds


async def _graded(client: Client, kinds: list[str]) -> Graded:
    begun = time.monotonic()
    roster = [{"STUDENT_ID": f"s{number}", "KIND": kind} for number, kind in enumerate(kinds)]
    run_id = await client.submit(COURSE, "mp1", 0, students_env=roster)
    return Graded(await client.finished(COURSE, run_id, within=200), time.monotonic() - begun)


async def _job(client: Client, job_id: str) -> dict[str, Any]:
    answer = await client.get(f"courses/{COURSE}/jobs/{job_id}", token=token_of(COURSE), version="v2")
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job

"""One stream per job of a run: each gets all its events. `make bench` measures the cost."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from harness import IS_WHOLE, Client, Place, free_port, stage, until
from pollers import Poller
from processes import QUICK_DISPATCHER, Processes, processes

POLLERS, WATCHERS = (4, 200) if IS_WHOLE else (2, 30)


@dataclass
class Server:
    """The API as a separate process, so that watchers do not slow it down."""

    processes: Processes
    client: Client


@pytest.fixture
async def server(place: Place, tmp_path: Path) -> AsyncIterator[Server]:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"], "query_tokens": ["query-241"]}}))
    port = str(free_port())
    tokens = ("--token", "cluster-token", "--original-graders", "default")
    flags = [*tokens, "--bind-port", port, "--course-config", str(courses), *QUICK_DISPATCHER]
    limits = httpx2.Limits(max_connections=None)
    async with (
        processes(tmp_path / "site", place.environment) as running,
        httpx2.AsyncClient(base_url=f"http://localhost:{port}", timeout=60, limits=limits) as http,
    ):
        await running.service("api", *flags, "--heartbeat-interval", "60")
        client = Client(http)
        await until(client.is_ready)
        await client.register("cs241", "mp1", students=[stage("exit", "0")])
        yield Server(running, client)


async def follow(client: Client, job: str, events: list[Any], opened: asyncio.Event) -> None:
    """Read a stream to its end."""
    headers = {"Authorization": "Bearer query-241"}
    async with client.http.stream("GET", f"/api/v1/stream/cs241/{job}", headers=headers) as answer:
        opened.set()
        events += [json.loads(line[6:])["data"] async for line in answer.aiter_lines() if line.startswith("data: ")]


async def grade(server: Server, name: str, *, failing: str) -> None:
    """Poll for jobs and report them until no job waits."""
    grader = Poller(server.client.http, name)
    await grader.register()
    while job := await grader.poll():
        await grader.report(job["grading_job_id"], success=job["grading_job_id"] != failing)


async def watch_all(server: Server, students: int) -> list[list[Any]]:
    """Grade a run with a watcher per job, and return the events of each watcher."""
    run_id = await server.client.submit("cs241", "mp1", students=students)
    jobs = list((await server.client.status("cs241", run_id))["student_jobs_state"])
    events: list[list[Any]] = [[] for _ in jobs]
    async with asyncio.TaskGroup() as watching:
        for job, each in zip(jobs, events, strict=True):
            opened = asyncio.Event()
            watching.create_task(follow(server.client, job, each, opened))
            await opened.wait()
        async with asyncio.TaskGroup() as grading, contextlib.AsyncExitStack():
            for number in range(POLLERS):
                grading.create_task(grade(server, f"poller-{students}-{number}", failing=jobs[1]))
    return events


@pytest.mark.timeout(240)
async def test_as_many_watchers_as_jobs_get_all_their_events(server: Server) -> None:
    for number, (*places, start, end) in enumerate(await watch_all(server, WATCHERS)):
        assert (start, end) == ("STARTED", "FAILED" if number == 1 else "FINISHED")
        assert places == sorted(places, reverse=True)
        assert all(place <= number for place in places)
        # A busy server reports positions less often: some of the first jobs may start without any.
        assert len(set(places)) >= min(number // (10 * POLLERS), 3), "they fall"

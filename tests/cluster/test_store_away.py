"""The store is killed in the middle of a run, and returns long after the leases have expired."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

from harness import Client, Place, free_port, stage, until
from processes import QUICK_DISPATCHER, processes

from broadway.local.store import store

OUTAGE = 5  # seconds; a lease lasts 3 here


async def test_every_job_keeps_its_outcome_when_the_store_is_killed(place: Place, tmp_path: Path) -> None:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    port, store_port = free_port(), free_port()
    data = tmp_path / "store"
    async with store(data, port=store_port) as first:
        environment = {**place.environment, "BROADWAY_MONGODB_DSN": first.dsn}
        async with processes(tmp_path / "site", environment) as running:
            flags = ("--course-config", str(courses), "--bind-port", str(port), "--mongodb-timeout", "1")
            await running.service("api", *flags, *QUICK_DISPATCHER)
            async with Client.connect(f"http://localhost:{port}") as client:
                await until(client.is_ready)
                await running.grader("host1", slots=4)
                await client.register("cs241", "mp1", students=[stage("sleep", "1")])
                run_id = await client.submit("cs241", "mp1", students=12)
                await until(lambda: "outcome" in running.log("host1"))

                os.kill(first.pid, signal.SIGKILL)
                await first.child.ended()

                async def is_known() -> bool:
                    return (await client.http.get("/readyz")).status_code == 503

                await until(is_known)
                await asyncio.sleep(OUTAGE)  # the fault itself: an outage of that length
                async with store(data, port=store_port):
                    await until(client.is_ready)
                    run = await client.finished("cs241", run_id)

                    assert Counter(job["outcome"] for job in run["jobs"]) == {"succeeded": 12}
                    assert {job["attempts"] for job in run["jobs"]} == {1}

"""The changes of a run as server-sent events."""

import asyncio
from typing import Any

import httpx2
from harness import Cluster, stage


async def test_a_run_is_watched_to_its_end_and_from_where_a_watcher_left(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run = await cluster.client.submit("cs241", "mp1", students=3)
    events: list[Any] = []

    async def follow(after: str = "", *, most: int = 100) -> str:
        path, headers = f"/api/v2/courses/cs241/runs/{run}/changes", {"Authorization": "Bearer query-241"}
        headers |= {"Last-Event-ID": after} if after else {}
        async with cluster.client.http.stream("GET", path, headers=headers) as answer:
            async for event in httpx2.EventSource(answer):
                if event.data:
                    events.append(event.json())
                    after, most = event.id, most - 1
                if not most:
                    break
        return after

    async with asyncio.timeout(60):
        first = await follow(most=1)
        cluster.graders.start("native")
        last = await follow(first)
        seen = len(events)
        await follow(last)  # a run that is over, as the watcher knows

    described = await cluster.client.describe("cs241", run)
    assert events[0]["jobs"] is None
    assert events[-1]["run"] == {key: value for key, value in described.items() if key != "jobs"}
    assert events[-1]["run"]["state"] == "finished"
    assert len(events) == seen

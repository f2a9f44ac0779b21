"""A small fleet: every job runs once, and the loads of the pool are those of the fleet.

`make bench` grows the same to 2,000 slots (benchmarks/fleet.py).
"""

from typing import Any

from harness import METRICS_TOKEN, Cluster, stage, until

GRADERS, SLOTS = 2, 10
ALL = GRADERS * SLOTS
RESERVED = ALL // 20  # slots that bulk jobs leave free
WAITING = 5


async def test_a_fleet_runs_each_job_once_and_reports_its_load(cluster: Cluster) -> None:
    client = cluster.client
    engines = [cluster.graders.start(f"host{number}", slots=SLOTS) for number in range(GRADERS)]
    await client.register("cs241", "quick", students=[stage("exit", "0")])
    await client.register("cs241", "long", students=[stage("hang")])

    async def load() -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
        found: dict[str, Any] = (await client.http.get("/api/v2/pools/default", headers=headers)).json()
        return found

    async def is_up() -> bool:
        return (await load())["slots"] == {"live": ALL, "busy": 0, "free": ALL, "paused": 0, "draining": 0}

    async def is_full() -> bool:
        found = await load()
        return found["slots"]["free"] == RESERVED and found["jobs"]["waiting"] >= WAITING

    await until(is_up, within=120)
    run = await client.finished("cs241", await client.submit("cs241", "quick", ALL))
    assert [(job["outcome"], job["attempts"]) for job in run["jobs"]] == [("succeeded", 1)] * ALL
    assert sum(len(engine.started) for engine in engines) == ALL

    long = await client.submit("cs241", "long", ALL + WAITING)
    await until(is_full, within=120)
    found = await load()
    assert found["jobs"]["running"] + found["jobs"]["waiting"] == ALL + WAITING
    assert found["jobs"]["running"] < found["suggested_slots"] <= ALL + WAITING
    single = await client.finished("cs241", await client.submit("cs241", "quick", 1))
    assert single["jobs"][0]["outcome"] == "succeeded", "one student does not wait behind a class"
    headers = {"Authorization": "Bearer staff-241"}
    answer = await client.http.post(f"/api/v2/courses/cs241/runs/{long}/cancel", headers=headers)
    assert answer.is_success

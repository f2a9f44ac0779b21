"""Jobs that come to a grader before it has a free slot, since the jobs before them took no time."""

from harness import Cluster, stage, until

from broadway.messages.topology import ready_queue


async def test_jobs_come_early_while_they_take_no_time_and_wait_behind_no_long_one(cluster: Cluster) -> None:
    async def consumers() -> int:
        state = await cluster.opened.rabbit.queue_state(ready_queue("default"))
        return state.consumers if state else 0

    async def has_consumers(count: int) -> bool:
        return await consumers() == count

    containers = cluster.graders.start("host1", slots=1)
    await cluster.client.register("cs241", "short", students=[stage("exit", "0")])
    await cluster.client.register("cs241", "long", students=[stage("hang", timeout=60)])
    await cluster.client.finished("cs241", await cluster.client.submit("cs241", "short", students=8))
    await until(lambda: has_consumers(2))

    begun = len(containers.started)
    await cluster.client.submit("cs241", "long", students=1)
    await until(lambda: len(containers.started) > begun)
    waiting = await cluster.client.submit("cs241", "short", students=3)
    await until(lambda: has_consumers(1))

    cluster.graders.start("host2", slots=1)
    run = await cluster.client.finished("cs241", waiting)
    assert {(job["outcome"], job["attempts"], job["grader"]) for job in run["jobs"]} == {("succeeded", 1, "host2")}

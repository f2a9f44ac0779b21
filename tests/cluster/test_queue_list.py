"""`broadway queue list` and the metrics count jobs, where the broker counts messages."""

import json
from typing import Any

from harness import Cluster, broadway, stage, until
from scraping import Scrape
from servers import Node

from broadway.domain.job import JobClass
from broadway.management import Management
from broadway.messages.topology import course_queue, ready_queue

BULK = course_queue("capped", JobClass.BULK).name


async def test_jobs_are_counted_beside_the_messages_that_have_many_of_them(
    cluster: Cluster, broker_node: Node, few_per_message: int
) -> None:
    students = 2 * few_per_message + 2  # three messages; with a cap of two jobs the dispatcher takes two of them
    await cluster.client.register("capped", "mp1", students=[stage("hang", timeout=600)])
    cluster.graders.start("host1", slots=2)
    await cluster.client.submit("capped", "mp1", students=students)
    environment = {**cluster.place.environment, "BROADWAY_MANAGEMENT_URL": broker_node.administration}
    seen: dict[str, Any] = {}

    async def listed(*arguments: str) -> str:
        return (await broadway("queue", "list", *arguments, **environment)).stdout

    async def is_gathered() -> bool:
        """Return whether the broker has gathered the statistics, which it does every five seconds."""
        found = await management.get("queues", cluster.place.name, BULK)
        return (found.get("messages_ready"), found.get("messages_unacknowledged")) == (1, 2)

    async def is_taken() -> bool:
        seen.update({row["queue"]: row for row in json.loads(await listed("--json"))})
        return [seen[BULK][key] for key in ("ready", "unacked", "running", "consumers")] == [1, 2, 2, 1]

    async with Management.connect(broker_node.administration) as management:
        await until(is_gathered)
    await until(is_taken)
    assert seen[BULK] | {"queue": BULK, "waiting": students - 2} == seen[BULK]
    assert seen[ready_queue("default").name]["waiting"] is None
    assert f"{BULK}\t1\t2\t1\t{students - 2}\t2\n" in await listed()

    shown = json.loads((await broadway("queue", "show", BULK, "--json", **environment)).stdout)
    consumers, seconds = shown.pop("consumed_by"), shown.pop("oldest_job_seconds")
    assert seen[BULK].items() <= shown.items()
    assert (shown["state"], shown["policy"]) == ("running", "")
    assert [(each["is_active"], each["tag"].partition("@")[0]) for each in consumers] == [(True, "dispatcher")]
    assert seconds > 0
    ready = ready_queue("default").name
    of_pool = json.loads((await broadway("queue", "show", ready, "--json", **environment)).stdout)
    assert (of_pool["waiting"], of_pool["oldest_job_seconds"], len(of_pool["consumed_by"])) == (None, None, 2)
    assert "tag\tuser\thost\tprefetch" in (await broadway("queue", "show", ready, **environment)).stdout
    missing = await broadway("queue", "show", "broadway.nowhere", **environment)
    assert (missing.exit_code, "the broker has no queue broadway.nowhere" in missing.stderr) == (1, True)

    async def is_exported() -> bool:
        now = Scrape.of((await cluster.client.metrics()).text).by("broadway_jobs", "state", course="capped")
        return sum(now.values()) == students

    await until(is_exported)

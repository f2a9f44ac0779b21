"""Operators forget graders that never come back; nothing that a grader holds is lost by it."""

from crashing import Crash
from harness import Cluster, Command, broadway, stage, until

from broadway.domain.job import Attempt, RetryPolicy
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point

TOKEN = {"Authorization": "Bearer operator-token"}


async def grader(cluster: Cluster, *arguments: str) -> Command:
    server = str(cluster.client.http.base_url)
    return await broadway("grader", *arguments, "--server", server, "--token", "operator-token")


async def is_gone(cluster: Cluster, name: str) -> bool:
    stored = await cluster.opened.store.graders.get(name)
    return stored is not None and not stored.alive


async def is_alive(cluster: Cluster, name: str) -> bool:
    stored = await cluster.opened.store.graders.get(name)
    return stored is not None and stored.alive


async def join_and_leave(cluster: Cluster, name: str) -> None:
    cluster.graders.attach(name, str(cluster.client.http.base_url))
    await until(lambda: is_alive(cluster, name))
    await cluster.graders.stop(name)
    await until(lambda: is_gone(cluster, name))


async def test_a_grader_that_is_gone_is_forgotten_and_may_join_as_a_new_one(cluster: Cluster) -> None:
    await join_and_leave(cluster, "host1")
    assert (await grader(cluster, "drain", "host1")).exit_code == 0

    forgotten = await grader(cluster, "forget", "host1", "--yes")
    again = await grader(cluster, "forget", "host1", "--yes")

    assert (forgotten.exit_code, forgotten.stdout) == (0, "host1 is forgotten\n")
    assert (again.exit_code, "no grader of that id has ever joined" in again.stderr) == (1, True)
    assert "host1" not in (await grader(cluster, "list")).stdout
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=2)
    cluster.graders.attach("host1", str(cluster.client.http.base_url))
    jobs = (await cluster.client.finished("cs241", run_id))["jobs"]
    assert {(job["outcome"], job["grader"]) for job in jobs} == {("succeeded", "host1")}, "the order is forgotten, too"


async def test_a_live_grader_is_not_forgotten_and_keeps_its_jobs(cluster: Cluster) -> None:
    containers = cluster.graders.attach("host1", str(cluster.client.http.base_url), slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("sleep", "1")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    await until(lambda: containers.started)

    refused = await grader(cluster, "forget", "host1", "--yes")

    assert refused.exit_code == 1
    assert "the grader is alive: stop it first" in refused.stderr
    (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]
    assert (job["outcome"], job["attempts"]) == ("succeeded", 1)


async def test_a_grader_is_not_forgotten_before_its_jobs_have_another_one(cluster: Cluster) -> None:
    await join_and_leave(cluster, "host1")
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    attempt, jobs = Attempt("e1", "host1", now()), cluster.opened.store.jobs
    lease = cluster.settings.lease
    await jobs.move({job["id"]: lambda each: each.start(attempt, lease=lease, policy=RetryPolicy(), now=now())})

    refused = await grader(cluster, "forget", "host1", "--yes")

    assert (refused.exit_code, "1 of its jobs are not repeated yet" in refused.stderr) == (1, True)
    assert await cluster.opened.store.graders.get("host1")


async def test_a_revoked_grader_stays_revoked(cluster: Cluster) -> None:
    await join_and_leave(cluster, "host1")
    assert (await grader(cluster, "revoke", "host1", "--yes")).exit_code == 0

    refused = await grader(cluster, "forget", "host1", "--yes")

    assert (refused.exit_code, "`broadway grader readmit host1` first" in refused.stderr) == (1, True)


async def test_a_grader_whose_forgetting_died_is_still_listed(cluster: Cluster, crash: Crash) -> None:
    await join_and_leave(cluster, "host1")
    crash(Point.FORGET_USER_CLOSED)
    died = await cluster.client.http.post("/api/v2/graders/host1/forget", headers=TOKEN)
    assert (died.status_code, await is_gone(cluster, "host1")) == (500, True)
    assert (await grader(cluster, "forget", "host1", "--yes")).exit_code == 0


async def test_a_grader_that_joins_while_it_is_forgotten_stays(cluster: Cluster) -> None:
    await join_and_leave(cluster, "host1")
    store = cluster.opened.store.graders
    seen = await store.get("host1")
    assert seen is not None
    await store.join("host1", hostname="h", pool="default", slots=1, now=now())

    assert not await store.forget("host1", joined_at=seen.joined_at)
    assert await store.get("host1")

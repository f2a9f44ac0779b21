"""One course never starves another."""

import pytest
from harness import IS_WHOLE, Cluster, stage, until

SLOTS = 4
LARGE = 2000 if IS_WHOLE else 200  # students of a class


@pytest.fixture
def cluster(own_cluster: Cluster) -> Cluster:
    """A dispatcher without a history, and many jobs that no other test waits for."""
    return own_cluster


async def test_a_small_course_waits_for_two_jobs_per_slot_at_most(cluster: Cluster) -> None:
    client = cluster.client
    containers = cluster.graders.start("host1", slots=SLOTS)
    for course in ("cs101", "cs241"):
        await client.register(course, "mp1", students=[stage("sleep", "0.2")])
    large = await client.submit("cs101", "mp1", students=LARGE)
    await until(lambda: len(containers.started) > 2 * SLOTS)

    small = await client.submit("cs241", "mp1", students=5)
    before = len(containers.started)
    jobs = set((await client.status("cs241", small))["student_jobs_state"])
    await until(lambda: any(labels.job_id in jobs for labels in containers.started))

    first = next(n for n, labels in enumerate(containers.started) if labels.job_id in jobs)
    assert first - before <= 2 * SLOTS  # each may have one that waits, and start one meanwhile
    run = await client.finished("cs241", small)
    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * 5
    assert (await client.status("cs101", large))["state"] == "students grading jobs have been scheduled"


async def test_a_cap_limits_a_courses_jobs_in_flight(cluster: Cluster) -> None:
    client = cluster.client
    cluster.graders.start("host1", slots=8)
    await client.register("capped", "mp1", students=[stage("sleep", "0.6")])  # starts are reported after 0.2 s
    run_id = await client.submit("capped", "mp1", students=6)
    most = 0

    async def is_over() -> bool:
        nonlocal most
        run = await client.describe("capped", run_id)
        most = max(most, sum(job["state"] in ("dispatched", "running") for job in run["jobs"]))
        return run["state"] == "finished"

    await until(is_over)
    assert most == 2


async def test_interactive_jobs_go_before_bulk_ones_of_the_same_course(cluster: Cluster) -> None:
    client = cluster.client
    containers = cluster.graders.start("host1", slots=1)
    await client.register("cs241", "mp1", students=[stage("sleep", "0.2")])
    await client.submit("cs241", "mp1", students=30)
    await until(lambda: len(containers.started) > 1)

    run_id = await client.submit("cs241", "mp1", students=1)
    before = len(containers.started)
    run = await client.finished("cs241", run_id)

    position = [labels.job_id for labels in containers.started].index(run["jobs"][0]["id"])
    assert position - before <= 2


async def test_a_growing_cluster_raises_the_limit_of_jobs_in_flight(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("hang")])
    await cluster.client.submit("cs241", "mp1", students=50)

    containers = cluster.graders.start("host1", slots=40, drain_timeout=0)

    await until(lambda: len(containers.started) == 38)  # two slots are kept for interactive jobs

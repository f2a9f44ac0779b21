"""The reconciler repairs lost queues, lost messages and unreadable messages."""

from collections.abc import Iterator
from datetime import timedelta

import aio_pika
import pytest
from harness import Cluster, stage, until

from broadway.dispatcher import queue_probes
from broadway.dispatcher.patience import Patience
from broadway.domain.job import JobClass, Phase
from broadway.messages.events import JobDispatched
from broadway.messages.topology import (
    DEAD_LETTERS,
    EVENTS,
    JOBS,
    RESULTS,
    UNROUTED_FACTS,
    Queue,
    course_queue,
    ready_key,
    ready_queue,
)

SOON = Patience(second_look=0.5, dispatch=timedelta(seconds=0.5))
impatient = pytest.mark.parametrize("patience", [SOON], ids=["soon"], scope="module")


@pytest.fixture(scope="module", autouse=True)
def _without_probes() -> Iterator[None]:
    """Let nothing but a test restore the bindings that it removes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue_probes, "INTERVAL", 3600)
        yield


async def purge(cluster: Cluster, *queues: str) -> int:
    async with await aio_pika.connect(cluster.place.amqp_url) as connection:
        channel = await connection.channel()
        return sum([(await (await channel.get_queue(name)).purge()).message_count or 0 for name in queues])


@impatient
async def test_a_purged_backlog_is_published_again(cluster: Cluster, few_per_message: int) -> None:
    students = 2 * few_per_message + 2
    await cluster.client.register("capped", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("capped", "mp1", students=students)
    backlog = course_queue("capped", JobClass.BULK)
    await until(lambda: depth(cluster, ready_queue("default").name))
    await until(lambda: depth(cluster, backlog.name))  # the dispatcher has two messages, for a cap of two jobs

    assert await purge(cluster, backlog.name) > 0
    cluster.graders.start("host1", slots=2)
    run = await cluster.client.finished("capped", run_id)

    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * students


async def depth(cluster: Cluster, name: str) -> int:
    """Return how many messages a queue has; the dispatcher, which is impatient here, may publish a job again."""
    async with await aio_pika.connect(cluster.place.amqp_url) as connection:
        channel = await connection.channel()
        return (await channel.declare_queue(name, passive=True)).declaration_result.message_count or 0


@impatient
async def test_a_purged_ready_queue_is_filled_again(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=3)
    ready = ready_queue("default").name
    await until(lambda: depth(cluster, ready))

    assert await purge(cluster, ready) > 0
    cluster.graders.start("host1")
    run = await cluster.client.finished("cs241", run_id)

    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * 3


async def unbind(cluster: Cluster, queue: Queue, *facts: str) -> None:
    async with await aio_pika.connect(cluster.place.amqp_url) as connection:
        found = await (await connection.channel()).get_queue(queue.name)
        for fact in facts:
            await found.unbind(EVENTS.name, f"job.{fact}.#")


async def is_lost(cluster: Cluster, fact: str) -> bool:
    """Return whether a fact about a job has reached no queue: take those that have not, and look for it."""
    async with await aio_pika.connect(cluster.place.amqp_url) as connection:
        unrouted = await (await connection.channel()).get_queue(UNROUTED_FACTS.name)
        while message := await unrouted.get(no_ack=True, fail=False):
            if (message.routing_key or "").startswith(f"job.{fact}."):
                return True
    return False


@impatient
async def test_a_job_is_dispatched_again_when_its_start_and_outcome_got_lost(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    await until(lambda: depth(cluster, ready_queue("default").name))
    await unbind(cluster, RESULTS, "started", "finished")  # as a lost queue
    containers = cluster.graders.start("host1")
    await until(lambda: is_lost(cluster, "finished"))
    await cluster.opened.rabbit.restore(RESULTS)

    run = await cluster.client.finished("cs241", run_id)

    assert [(each["outcome"], each["attempts"]) for each in run["jobs"]] == [("succeeded", 1)]
    assert len(containers.started) == 1, "the same grader got it again, and told what it had come to"


@impatient
async def test_a_run_ends_although_the_results_queue_is_deleted_while_its_jobs_run(cluster: Cluster) -> None:
    containers = cluster.graders.start("host1", slots=2)
    await cluster.client.register("cs241", "mp1", students=[stage("sleep", "0.5")])
    run_id = await cluster.client.submit("cs241", "mp1", students=6)
    for jobs in (1, 3):
        await until(lambda jobs=jobs: len(containers.started) >= jobs)
        async with await aio_pika.connect(cluster.place.amqp_url) as connection:
            await (await connection.channel()).queue_delete(RESULTS.name)

    run = await cluster.client.finished("cs241", run_id)

    assert [each["outcome"] for each in run["jobs"]] == ["succeeded"] * 6


async def test_a_poisoned_outcome_ends_its_job_visibly(cluster: Cluster) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    headers = {
        "ce-type": "io.broadway.job.dispatched.v1",
        "ce-id": f"{job['id']}:1:1:0",
        "ce-subject": f"cs241/{run_id}/{job['id']}",
        "x-broadway-reason": "made up by a test",
    }
    async with await aio_pika.connect(cluster.place.amqp_url) as connection:
        exchange = await (await connection.channel()).get_exchange(DEAD_LETTERS.name)
        message = aio_pika.Message(b"not JSON", headers=headers, user_id=connection.url.user)
        await exchange.publish(message, "dead.test")

    run = await cluster.client.finished("cs241", run_id)

    (job,) = run["jobs"]
    assert job["outcome"] == "infrastructure_error"
    assert "made up by a test" in job["reason"]


async def test_unreadable_results_become_dead_letters_and_stop_no_other_job(cluster: Cluster) -> None:
    cluster.graders.start("host1")
    async with await aio_pika.connect(cluster.place.amqp_url) as connection:
        exchange = await (await connection.channel()).get_exchange(EVENTS.name)
        for body in (b"", b"{}", b"\xff", b"[" * 1000):
            headers = {"ce-type": "io.broadway.job.finished.v1", "ce-id": repr(body)[:20]}
            message = aio_pika.Message(body, headers=headers, user_id=connection.url.user)
            await exchange.publish(message, "job.finished.cs241")
    await until(lambda: has_letters(cluster, 4))

    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=2))

    assert run["state"] == "finished"


async def has_letters(cluster: Cluster, count: int) -> bool:
    return await cluster.opened.store.dead_letters.count() == count


async def test_a_grader_that_lost_its_lease_does_not_run_the_next_attempt_beside_the_first(cluster: Cluster) -> None:
    containers = cluster.graders.start("host1", slots=2)
    await cluster.client.register("cs241", "mp1", students=[stage("sleep", "1")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    await until(lambda: containers.started)
    stages = (await cluster.opened.store.jobs.stages([job["id"]]))[job["id"]]
    next_attempt = JobDispatched(
        course="cs241",
        run_id=run_id,
        job_id=job["id"],
        generation=1,
        assignment="mp1",
        phase=Phase.STUDENTS,
        attempt=2,
        stages=stages,
    )
    await cluster.opened.rabbit.publish(JOBS, ready_key("default"), next_attempt)

    run = await cluster.client.finished("cs241", run_id)
    await cluster.graders.stop("host1")

    assert [(each["outcome"], each["attempts"]) for each in run["jobs"]] == [("succeeded", 1)]
    assert len(containers.started) == 1
    assert await depth(cluster, ready_queue("default").name) == 0

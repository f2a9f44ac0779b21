"""A pool of many graders: a job that waits for one of them survives restarts of the broker."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from faults.report import Report
from faults.servers import Rabbit
from harness import until

from broadway.domain.job import JobClass
from broadway.messages.events import JobQueued
from broadway.messages.topology import DEAD, JOBS, ready_key, ready_queue
from broadway.rabbit.client import Rabbit as Publisher

GRADERS = 30
OLD_ENOUGH = 2  # seconds; a killed broker may lose a queue that is younger than a second
READY = ready_queue("default")


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_job_survives_restarts_of_the_broker_under_many_graders(tmp_path: Path, report: Report) -> None:
    async with Rabbit.running(tmp_path) as rabbit:
        await _hand_over_one_job(rabbit)
        returns = [await _restart_under(rabbit, GRADERS) for _ in range(2)]
        dead = (await rabbit.queues())[DEAD.name]

    injected = f"the broker killed twice while {GRADERS} graders consume and one job waits"
    report.row(
        "many consumers",
        injected,
        f"the broker counts {returns[-1]} returns of the job, and hands it out",
        f"{dead} jobs",
    )
    assert dead == 0
    assert returns[-1] > GRADERS, "each grader that is gone counts as one that has returned the job"


async def _hand_over_one_job(rabbit: Rabbit) -> None:
    job = JobQueued(course="cs1", run_id="r1", job_id="j1", generation=1, job_class=JobClass.BULK)
    async with Publisher.connect(rabbit.url, service="test") as publisher:
        await publisher.declare_topology()
        await publisher.declare(READY)
        await publisher.publish(JOBS, ready_key("default"), job)
    await asyncio.sleep(OLD_ENOUGH)


async def _restart_under(rabbit: Rabbit, graders: int) -> int:
    """Kill the broker while ``graders`` graders consume; return how often it then counts the job as returned."""
    async with AsyncExitStack() as stack:
        for _ in range(graders):
            await _consume(await stack.enter_async_context(await aio_pika.connect(rabbit.url)))
        await rabbit.server.kill()
    async with await aio_pika.connect(rabbit.url) as connection:
        queue = await (await connection.channel()).get_queue(READY.name, ensure=False)
        message = await until(lambda: queue.get(fail=False))
        await message.nack(requeue=True)
        return int(message.headers["x-delivery-count"])


async def _consume(connection: AbstractConnection) -> None:
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1)
    await (await channel.get_queue(READY.name, ensure=False)).consume(_keep)


async def _keep(_: AbstractIncomingMessage) -> None:
    """Leave the message unacknowledged, as a grader does while the job runs."""

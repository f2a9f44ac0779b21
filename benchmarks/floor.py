"""The minimal cost of a durable job on the same broker and store: Broadway's writes and messages alone."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from benchmarks.machine import cpu_seconds
from benchmarks.site import NOTHING, Ground, roster_of
from broadway.domain.job import Execution, Job, Outcome, Phase, RetryPolicy
from broadway.domain.result import JobLog
from broadway.domain.run import PlannedJob, Run, RunState, plan_jobs
from broadway.mongo.store import Store

BATCH = 100  # jobs written at a time: more than a control plane ever writes together
SIZE = 600  # bytes of a message, about the size of Broadway's
_ONCE = RetryPolicy(1, timedelta())


@dataclass(frozen=True, slots=True)
class Floor:
    """A separate database and queue."""

    store: Store
    store_pid: int
    channel: AbstractChannel
    queue: str
    arrived: asyncio.Semaphore

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, ground: Ground) -> AsyncIterator[Self]:
        """Set up Broadway's collections with their indexes, and a queue of the same type with a consumer."""
        name, arrived = f"floor-{token_hex(4)}", asyncio.Semaphore(0)

        async def take(message: AbstractIncomingMessage) -> None:
            arrived.release()
            await message.ack()

        async with (
            Store.connect(ground.store.dsn, primary=name, logs=f"{name}-logs") as store,
            await aio_pika.connect(ground.node.amqp_url) as publishing,
            await aio_pika.connect(ground.node.amqp_url) as consuming,
        ):
            channel = await consuming.channel()
            await channel.set_qos(BATCH)
            queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
            await queue.consume(take)
            yield cls(store, ground.store.pid, await publishing.channel(), name, arrived)

    async def latency(self) -> float:
        """Return the seconds that the steps from a submission to a start take, one after another."""
        run, (planned,) = _planned(1)
        begun = time.perf_counter()
        await self.store.runs.insert(run)
        await self.store.jobs.insert([planned])
        await self._pass_a_message()
        await self.store.jobs.with_stages([planned.job.id])  # before it is handed over
        await self._pass_a_message()
        return time.perf_counter() - begun

    async def settle(self, jobs: int) -> tuple[float, float]:
        """Write jobs from their submission to their outcome; return the seconds, and the store's seconds of CPU."""
        run, planned = _planned(jobs)
        before, begun = cpu_seconds(self.store_pid), time.perf_counter()
        await self.store.runs.insert(run)
        await self.store.jobs.insert(planned)
        for start in range(0, jobs, BATCH):
            await self._finish({plan.job.id: plan.job for plan in planned[start : start + BATCH]})
        return time.perf_counter() - begun, cpu_seconds(self.store_pid) - before

    async def _pass_a_message(self) -> None:
        message = aio_pika.Message(bytes(SIZE), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        publish = self.channel.default_exchange.publish(message, self.queue)
        await asyncio.gather(publish, self.arrived.acquire())

    async def _finish(self, jobs: Mapping[str, Job]) -> None:
        now = datetime.now(UTC)
        reports = {name: Execution(token_hex(12), "floor", now, now, Outcome.SUCCEEDED) for name in jobs}
        await self.store.logs.put([JobLog(name, report.execution_id, "", "") for name, report in reports.items()])

        def finish(job: Job) -> Job:
            return job.finish(reports[job.id], policy=_ONCE, now=now)

        await self.store.jobs.move(dict.fromkeys(jobs, finish), known=jobs)


def _planned(students: int) -> tuple[Run, list[PlannedJob]]:
    now, config = datetime.now(UTC), {"student_pipeline": NOTHING}
    run = Run(token_hex(12), "floor", "noop", RunState.STUDENTS, now, config, students_env=roster_of(students))
    return run, plan_jobs(run, Phase.STUDENTS, now)

"""A grader with a login of its own that misuses it: it takes jobs, gives them back, and reports whatever it likes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Self

import aio_pika
import httpx2
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.job import Outcome
from broadway.messages.envelope import decode, encode
from broadway.messages.events import Event, ExecutionEvent, JobDispatched, JobFinished, JobReleased, JobStarted
from broadway.messages.http import IDENTITY_HEADER, PROVES_HEADER
from broadway.messages.ticket import proof_of
from broadway.messages.topology import EVENTS, event_key, grader_user, ready_queue

NOW = datetime.now(UTC)


@dataclass
class Taken:
    """A job that was delivered to the intruder."""

    message: AbstractIncomingMessage
    job: JobDispatched


@dataclass
class Intruder:
    """A grader's login at the broker, and its key for proofs."""

    name: str
    connection: AbstractConnection
    key: bytes
    secret: Mapping[str, str]  # the headers of its later joins

    @classmethod
    @contextlib.asynccontextmanager
    async def join(
        cls, http: httpx2.AsyncClient, name: str, *, pool: str = "default", token: str = "cluster-token"
    ) -> AsyncIterator[Self]:
        """Join as a grader, and connect to the broker."""
        body = {"hostname": "host", "pool": pool, "slots": 2}
        secret = {"Authorization": f"Bearer {token}", IDENTITY_HEADER: new_secret(SecretPrefix.GRADER)}
        answer = await http.post(f"/api/v2/graders/{name}", json=body, headers={**secret, PROVES_HEADER: "1"})
        assert answer.status_code == httpx2.codes.OK, answer.text
        async with await aio_pika.connect(answer.json()["amqp_url"]) as connection:
            yield cls(name, connection, bytes.fromhex(answer.json()["proof_key"]), secret)

    @contextlib.asynccontextmanager
    async def taken(self, *, pool: str = "default") -> AsyncIterator[Taken]:
        """Take a job of the pool and keep it until the end of the block, unless the block settles it."""
        async with self.connection.channel() as channel:
            await channel.set_qos(prefetch_count=1)
            queue = await channel.get_queue(ready_queue(pool).name, ensure=False)
            arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            tag = await queue.consume(arrived.put)
            while not (message := await arrived.get()).body:
                await message.ack()  # the dispatcher's probe of the queue
            await queue.cancel(tag)
            job = decode(message.headers, message.body)
            assert isinstance(job, JobDispatched)
            yield Taken(message, job)

    def started(self, job: JobDispatched, execution_id: str, **more: Any) -> JobStarted:
        return self.proven(JobStarted(**self._about(job, execution_id), started_at=NOW, **more))

    def released(self, job: JobDispatched, execution_id: str) -> JobReleased:
        return self.proven(JobReleased(**self._about(job, execution_id), released_at=NOW))

    def finished(self, job: JobDispatched, execution_id: str, **more: Any) -> JobFinished:
        ended = {"started_at": NOW, "finished_at": NOW, "outcome": Outcome.FAILED, "reason": "forged", **more}
        return self.proven(JobFinished(**self._about(job, execution_id), **ended))

    def _about(self, job: JobDispatched, execution_id: str) -> dict[str, Any]:
        return {**job.ids, "execution_id": execution_id, "grader_id": self.name}

    def proven(self, event: Any) -> Any:
        """Return an event with this grader's proof."""
        assert isinstance(event, ExecutionEvent)
        return event.model_copy(update={"proof": proof_of(event, self.key)})

    async def report(self, event: Event, fact: str, *, course: str = "cs241", **headers: str) -> None:
        """Publish an event, with ``headers`` in place of its own; return once the broker has it."""
        wire = encode(event, source="/broadway/grader")
        async with self.connection.channel() as channel:
            exchange = await channel.get_exchange(EVENTS.name, ensure=False)
            message = aio_pika.Message(
                wire.body,
                headers={**wire.headers, **headers},
                type=wire.type,
                message_id=token_hex(8),
                user_id=grader_user(self.name),
            )
            await exchange.publish(message, event_key("job", fact, course))

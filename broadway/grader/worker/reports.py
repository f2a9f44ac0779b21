"""Publish a grader's events about executions, each with the grader's proof; outcomes of one moment in one message."""

import asyncio
import contextvars
from collections.abc import Sequence
from dataclasses import dataclass, field

import stamina
import structlog

from broadway.grader.worker.recent_outcomes import characters_of
from broadway.messages.batches import JobsFinished, packed
from broadway.messages.events import Event, ExecutionEvent, JobFinished
from broadway.messages.ticket import proof_of
from broadway.messages.topology import EVENTS, event_key
from broadway.ports import Publisher, PublishError
from broadway.runtime.cancellation import end

log = structlog.get_logger(__name__)

MOMENT = 0.002  # seconds after a message of outcomes, for which the next ones are collected
LARGE = 256 * 1024  # characters of an outcome, above which it is sent alone, so that no other one waits for it

_Waiting = tuple[JobFinished, asyncio.Future[None]]


@dataclass(slots=True)
class Reports:
    """The events of one grader on their way to the broker.

    Outcomes that arrive while a message of outcomes is on its way, and for a moment after it, share the next one.

    Args:
        publisher: Sends events.
        proof_key: The key of the grader's proofs; empty if the API gave no key.
        batches: The control plane understands messages of several outcomes.
        cancelled_logs: The control plane understands the outcomes of cancelled jobs.
    """

    publisher: Publisher
    proof_key: bytes = b""
    batches: bool = True
    cancelled_logs: bool = True
    _waiting: list[_Waiting] = field(default_factory=list)
    _sending: asyncio.Task[None] | None = None
    _context: contextvars.Context = field(default_factory=contextvars.copy_context)  # no job's, for log lines

    async def finished(self, outcome: JobFinished) -> None:
        """Return once the broker has confirmed an outcome; retry for as long as the broker is unavailable.

        An outcome that comes while no other one is being sent is sent at once.
        """
        if not self.batches or characters_of(outcome) > LARGE:
            await self.publish(outcome, "finished")
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((outcome, done))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send(), context=self._context)
        await done

    async def publish(self, event: ExecutionEvent, fact: str) -> None:
        """Publish an event, and retry for as long as the broker is unavailable: the job's work must not be lost."""
        await self._publish(self.proven(event), fact, event.course)

    async def publish_once(self, event: ExecutionEvent, fact: str) -> None:
        """Publish an event.

        Raises:
            PublishError: The broker did not confirm it.
        """
        await self.publisher.publish(EVENTS, event_key("job", fact, event.course), self.proven(event))

    async def aclose(self) -> None:
        """Send nothing more; the outcomes that wait remain in the spool."""
        if self._sending is not None:
            await end(self._sending)
        _cancel(self._waiting)

    async def _send(self) -> None:
        """Send the outcomes that wait, until no outcome has arrived for a moment."""
        while self._waiting:
            batch, self._waiting = self._waiting[: JobsFinished.most], self._waiting[JobsFinished.most :]
            await self._send_batch(batch)
            await asyncio.sleep(MOMENT)

    async def _send_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            await self._send_all([outcome for outcome, _ in batch])
        except asyncio.CancelledError:
            _cancel(batch)
            raise
        except Exception as error:  # noqa: BLE001 - the submitters raise it
            for done in _pending(batch):
                done.set_exception(error)
        else:
            for done in _pending(batch):
                done.set_result(None)

    async def _send_all(self, outcomes: Sequence[JobFinished]) -> None:
        messages = packed(JobsFinished, [self.proven(outcome) for outcome in outcomes])
        course = outcomes[0].course  # of the routing key, which no queue binds to a single course
        await asyncio.gather(*(self._publish(message, "finished", course) for message in messages))

    async def _publish(self, event: Event, fact: str, course: str) -> None:
        async for attempt in stamina.retry_context(on=PublishError, attempts=None, timeout=None, wait_max=5):
            with attempt:
                await self.publisher.publish(EVENTS, event_key("job", fact, course), event)

    def proven(self, event: ExecutionEvent) -> ExecutionEvent:
        """Return an event with this grader's proof."""
        if not self.proof_key:
            return event
        return event.model_copy(update={"proof": proof_of(event, self.proof_key)})


def _cancel(batch: Sequence[_Waiting]) -> None:
    for _, done in batch:
        done.cancel()


def _pending(batch: Sequence[_Waiting]) -> list[asyncio.Future[None]]:
    return [done for _, done in batch if not done.done()]

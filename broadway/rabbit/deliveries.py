"""Handle the events of delivered messages, each on its own, and settle each message after its last event."""

import asyncio
import contextvars
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog
from aio_pika.abc import AbstractIncomingMessage

from broadway.messages.batches import Batch, parts_of
from broadway.messages.envelope import Decoder, OversizedError, UndecodableError, Wire, decode_dead_letter, encode
from broadway.messages.events import Event
from broadway.messages.topology import Queue, grader_of, is_service
from broadway.ports import GiveBack, Handler, PublishError, Reject, Retry
from broadway.rabbit.settling import DeadLetterBox, Settlement, settle
from broadway.runtime import metrics
from broadway.runtime.cancellation import end
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.metrics import Handled

log = structlog.get_logger(__name__)

UNREADABLE = "unreadable"  # the metrics' event type of undecodable messages
FAILURES = 5  # failures of a handler for one event in this process, after which the event is dead
REMEMBERED = 1000  # the number of failures that are remembered
_BY_WEIGHT = (Settlement.DONE, Settlement.DISCARDED, Settlement.GIVEN_BACK)  # the last one of its events' decides

Vouched = Callable[[Event], Awaitable[bool]]
Instant = Callable[[Event], bool]


async def unknown(_: Event) -> bool:
    """Vouch for no event: a consumer without a check of its own gets no events of graders."""
    return False


def never(_: Event) -> bool:
    """Handle no event at once."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """The handler of a queue's events, and its conditions; see ``Rabbit.consume``.

    ``back_off`` is the pause in seconds before an event is handled again whose handler failed unexpectedly.
    """

    handler: Handler
    decoder: Decoder
    vouched: Vouched = unknown
    at_once: Instant = never
    most_events: int | None = None
    is_guest: bool = False
    back_off: float = 5


@dataclass(slots=True, eq=False)
class _Delivery:
    """A message that this process must settle: its newest delivery, and the number of its events that are not settled.

    ``settlement`` is the heaviest one of its settled events.
    """

    key: str
    message: AbstractIncomingMessage
    open_events: int = 0
    is_batch: bool = False
    settlement: Settlement = Settlement.DONE


@dataclass(frozen=True, slots=True)
class _Work:
    """One event of a delivery, or the error that its message is unreadable. ``name`` identifies it."""

    delivery: _Delivery
    event: Event | Exception
    name: str

    @property
    def kind(self) -> str:
        return self.event.type if isinstance(self.event, Event) else UNREADABLE


@dataclass(slots=True)
class Deliveries:
    """The messages that this process holds, by message id, and the running handlers of their events.

    ``opened`` is the number of messages whose events were handled or are being handled.
    """

    broker: DeadLetterBox
    queue: Queue
    handling: Handling
    opened: int = 0
    _deliveries: dict[str, _Delivery] = field(default_factory=dict)
    _unopened: deque[_Delivery] = field(default_factory=deque)
    _open_events: int = 0
    _failed: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    # In order of arrival, which is also the order of requeueing.
    _tasks: dict[asyncio.Task[None], None] = field(default_factory=dict)
    _context: contextvars.Context = field(default_factory=contextvars.copy_context)
    _is_closing: bool = False

    @property
    def consumer_tags(self) -> set[str | None]:
        """The tags of the consumers whose deliveries are not settled."""
        return {delivery.message.consumer_tag for delivery in self._deliveries.values()}

    @property
    def unopened(self) -> int:
        """The number of messages that wait in memory, undecoded."""
        return len(self._unopened)

    async def arrive(self, message: AbstractIncomingMessage) -> None:
        """Start the handlers of a message in tasks and return, since aio-pika cancels this when the channel breaks.

        A message that is delivered again while it is held replaces its earlier delivery and starts nothing.
        """
        key = message.message_id or f"{id(self)}:{message.delivery_tag}"
        held = self._deliveries.get(key)
        if held is None:
            self._deliveries[key] = delivery = _Delivery(key, message)
            self._unopened.append(delivery)
            self._open_next()
        else:
            previous, held.message = held.message, message
            log.info("delivered again while running", queue=self.queue.name, message_id=key)
            await settle(previous, Settlement.DONE)

    async def finish(self, *, grace: float) -> None:
        """Wait for running handlers, at most ``grace`` seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)

    async def close(self) -> None:
        """Cancel running handlers, and requeue their messages and those that wait."""
        self._is_closing = True
        await end(*self._tasks)
        while self._unopened:
            delivery = self._unopened.popleft()
            del self._deliveries[delivery.key]
            await settle(delivery.message, Settlement.GIVEN_BACK)

    def _open_next(self) -> None:
        most = self.handling.most_events
        while self._unopened and not self._is_closing and (most is None or self._open_events < most):
            self._open(self._unopened.popleft())

    def _open(self, delivery: _Delivery) -> None:
        """Decode a message and start the handlers of its events."""
        self.opened += 1
        message = delivery.message
        event: Event | Exception
        try:
            event = self.handling.decoder(message.headers, message.body, message.user_id or "")
            event = event.as_redelivered() if message.redelivered else event
        except Exception as error:  # noqa: BLE001 - raised again where it is handled
            event = error
        delivery.is_batch = isinstance(event, Batch)
        parts = parts_of(event) if isinstance(event, Event) else [event]
        delivery.open_events = len(parts)
        self._open_events += len(parts)
        for part in parts:
            name = part.identity if delivery.is_batch and isinstance(part, Event) else delivery.key
            self._begin(_Work(delivery, part, name))

    def _begin(self, work: _Work) -> None:
        if not self._is_handled_at_once(work):
            self._spawn(self._run(work), work.name)
            return
        _count(work.kind, Handled.ACKNOWLEDGED)
        if self._is_last(work, Settlement.DONE):
            self._spawn(settle(work.delivery.message, Settlement.DONE), work.delivery.key)

    def _is_handled_at_once(self, work: _Work) -> bool:
        if not (work.delivery.is_batch and isinstance(work.event, Event) and self._is_trusted(work.delivery)):
            return False
        return self.handling.at_once(work.event)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        context = self._context.copy()  # without the ids of the event whose end has led here
        task = asyncio.create_task(work, name=f"{self.queue.name}:{name}", context=context)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _run(self, work: _Work) -> None:
        try:
            await reach(Point.DELIVERY_ARRIVED)
            event = await self._checked(work)
            structlog.contextvars.bind_contextvars(**event.context)
            await self._handle(event, work)
            await reach(Point.DELIVERY_HANDLED)
        except _ForgedError as problem:
            _count(work.kind, Handled.FORGED)
            log.error("forged", queue=self.queue.name, message_id=work.name, reason=str(problem))  # noqa: TRY400 - not a bug of ours
            await self._settle(work, Settlement.DONE)
        except (Reject, UndecodableError) as problem:
            _count(work.kind, Handled.DEAD)
            await self._park(work, reason=str(problem), is_oversized=isinstance(problem, OversizedError))
        except GiveBack as verdict:
            _count(work.kind, Handled.RETURNED)
            log.info("given back", queue=self.queue.name, message_id=work.name, reason=str(verdict))
            await self._settle(work, Settlement.GIVEN_BACK)
        except asyncio.CancelledError:
            _count(work.kind, Handled.RETURNED)
            await self._give_back(work)
            raise
        except Exception as error:
            log.exception("handler failed", queue=self.queue.name, message_id=work.name)
            if self._is_hopeless(work):
                _count(work.kind, Handled.DEAD)
                await self._park(work, reason=f"its handler failed {FAILURES} times, at last with {error!r}")
            else:
                _count(work.kind, Handled.RETURNED)
                await self._give_back(work, delay=self.handling.back_off)
        else:
            _count(work.kind, Handled.ACKNOWLEDGED)
            await self._settle(work, Settlement.DONE)
            await reach(Point.DELIVERY_ACKNOWLEDGED)

    def _is_trusted(self, delivery: _Delivery) -> bool:
        return is_service(delivery.message.user_id) or not self.queue.hears_graders

    async def _checked(self, work: _Work) -> Event:
        """Return an event once its sender has been checked, if graders may publish to the queue.

        A forged message must not reach the dead letters, since a dead letter may end a job.

        Raises:
            UndecodableError: The message of a trusted sender cannot be decoded.
            _ForgedError: A grader, or a sender without a verified user id, sent an event that it may not send.
        """
        event, user = work.event, work.delivery.message.user_id
        is_trusted = self._is_trusted(work.delivery)
        if isinstance(event, UndecodableError) and not isinstance(event, OversizedError) and not is_trusted:
            raise _ForgedError(f"{user} sent an unreadable message: {event}") from event
        if isinstance(event, Exception):
            # The copy of an oversized message in the dead letters has no type and no subject, and so ends no job.
            raise event
        if not is_trusted and (_is_forged(event, user) or not await self.handling.vouched(event)):
            raise _ForgedError(f"{user} may not send {event.type} about {event.subject}")
        return event

    async def _handle(self, event: Event, work: _Work) -> None:
        """Call the handler until it asks for no further try.

        The delivery is kept meanwhile. Requeueing it would count against the queue's delivery limit, and some minutes
        without the store would turn good messages into dead letters.
        """
        while True:
            try:
                return await self.handling.handler(event)
            except Retry as retry:
                _count(event.type, Handled.RETRIED)
                log.info(
                    "trying again", queue=self.queue.name, message_id=work.name, reason=str(retry), delay=retry.delay
                )
                await asyncio.sleep(retry.delay)

    def _is_hopeless(self, work: _Work) -> bool:
        """Count a failure of the handler for an event; return whether the event has failed too often."""
        message = work.delivery.message
        is_named = work.delivery.is_batch or message.message_id
        name = work.name if is_named else hashlib.sha256(message.body).hexdigest()
        self._failed.append(name)
        return self.queue.has_dead_letters and self._failed.count(name) >= FAILURES

    async def _give_back(self, work: _Work, *, delay: float = 0) -> None:
        """Requeue a message after a pause. An event of a batch is handled again here: others of it still run."""
        try:
            if delay:
                await asyncio.sleep(delay)
        finally:
            if work.delivery.is_batch and not self._is_closing:
                self._spawn(self._run(work), work.name)
            else:
                await self._settle(work, Settlement.GIVEN_BACK)

    async def _park(self, work: _Work, *, reason: str, is_oversized: bool = False) -> None:
        message: AbstractIncomingMessage | Wire = work.delivery.message
        if not isinstance(work.event, Event):
            structlog.contextvars.bind_contextvars(**decode_dead_letter(message.headers, message.body).context)
        log.error("dead letter", queue=self.queue.name, message_id=work.name, reason=reason)
        if self.handling.is_guest or self.queue.exclusive:
            await self._settle(work, Settlement.DISCARDED)
            return
        if work.delivery.is_batch and isinstance(work.event, Event):
            message = encode(work.event, source=str(message.headers.get("ce-source", "/broadway")))
        try:
            await self.broker.park(message, queue=self.queue, reason=reason, is_oversized=is_oversized)
        except PublishError as error:
            log.warning("dead letter not parked", queue=self.queue.name, error=str(error))
            await self._give_back(work, delay=self.handling.back_off)
        else:
            await self._settle(work, Settlement.DONE)

    async def _settle(self, work: _Work, settlement: Settlement) -> None:
        """Settle an event, and its message if that was the last one."""
        if self._is_last(work, settlement):
            await settle(work.delivery.message, work.delivery.settlement)

    def _is_last(self, work: _Work, settlement: Settlement) -> bool:
        """Note that an event is settled; return whether its message must be settled now."""
        delivery = work.delivery
        delivery.settlement = max(delivery.settlement, settlement, key=_BY_WEIGHT.index)
        delivery.open_events -= 1
        self._open_events -= 1
        if self._unopened:
            asyncio.get_running_loop().call_soon(self._open_next)
        if delivery.open_events:
            return False
        del self._deliveries[delivery.key]
        return True


class _ForgedError(Exception):
    """A message whose sender may not send it."""


def _count(kind: str, result: Handled) -> None:
    metrics.MESSAGES.labels(kind, result).inc()


def _is_forged(event: Event, user: str | None) -> bool:
    """Return whether a sender may not send an event: graders may send only their own events, services any event."""
    grader = grader_of(user) if user else ""
    return grader is not None and getattr(event, "grader_id", None) != grader

"""The only AMQP: connections, declarations, confirmed publishing, and the one place that settles deliveries."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import aio_pika
import stamina
import structlog
from aio_pika.abc import (
    AbstractIncomingMessage,
    AbstractQueue,
    AbstractRobustChannel,
    AbstractRobustConnection,
    AbstractRobustQueue,
)
from aio_pika.channel import Channel
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from yarl import URL

from broadway import __version__
from broadway.cancellation import cancellations, end, heeded
from broadway.crashpoints import Point, reach
from broadway.events import Decoder, Event, UndecodableError, Wire, decode, encode
from broadway.ports import Handler, PublishError, Reject, Retry
from broadway.topology import CONTROL, DEAD_LETTERS, EXCHANGES, SHARED_QUEUES, Exchange, Queue, dead_letter_key

log = structlog.get_logger(__name__)

HEARTBEAT = 10  # seconds; a frozen peer is noticed after about three
RECONNECT_INTERVAL = 1  # seconds
CALL_TIMEOUT = 10  # seconds, for every declaration and confirm
PING_WITHIN = 3  # seconds
PING = "ping"  # the type of messages that are sent only to see whether they are taken
CANARY_LIFE = 30  # seconds
WATCH_INTERVAL = 30  # seconds between two looks at a consumer that gets nothing
WATCH_STRIKES = 2
REPLACE_WITHIN = 30  # seconds; deleting a broken queue takes some
PUBLISH_DEADLINE = 30  # seconds, over all repetitions of one publish
BACK_OFF_AFTER_A_BUG = 5  # seconds before a message whose handler failed unexpectedly is tried again

_BROKEN_CHANNEL = (AMQPError, ConnectionError, TimeoutError, RuntimeError, OSError)


class BrokerUnreachableError(ConnectionError):
    """No connection to the broker, or it refused the login."""


class Rabbit:
    """One service's two connections to the broker: one publishes, one consumes.

    They are apart because a broker with a resource alarm stops reading from connections that publish, and acks sent
    on such a connection would be stuck with it.
    """

    def __init__(
        self, publishing: AbstractRobustConnection, consuming: AbstractRobustConnection, *, service: str
    ) -> None:
        self._publishing = publishing
        self._consuming = consuming
        self._service = service
        self._channel: AbstractRobustChannel | None = None
        self._publish_lock = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, *, service: str) -> AsyncIterator[Self]:
        """Connect both ways; ``service`` names the connections in the management UI, such as ``grader@host1``.

        Raises:
            BrokerUnreachableError: The first connection could not be made.
        """
        publishing = await _connect(url, name=f"broadway-{service} (publish)")
        try:
            consuming = await _connect(url, name=f"broadway-{service} (consume)")
        except BaseException:
            await publishing.close()
            raise
        rabbit = cls(publishing, consuming, service=service)
        try:
            yield rabbit
        finally:
            await consuming.close()
            await publishing.close()

    @property
    def is_connected(self) -> bool:
        """Whether both connections are up just now."""
        return all(c.connected.is_set() for c in (self._publishing, self._consuming))

    async def ping(self) -> None:
        """Return when the broker takes a message: connected, and not blocked by an alarm.

        Raises:
            PublishError: It does not.
        """
        if not self.is_connected:
            raise PublishError("not connected", unknown=False)
        nothing = aio_pika.Message(b"", app_id=f"broadway-{self._service}", type=PING)
        async with _call("no message is taken, as under a memory or disk alarm", seconds=PING_WITHIN):
            channel = await self._publish_channel()
            target = await channel.get_exchange(CONTROL.name, ensure=False)
            await target.publish(nothing, "ping", mandatory=False)

    async def accepts(self, queue: Queue) -> bool:
        """Whether a queue takes a message, tried with one that nobody needs.

        A queue that was declared less than a second before its broker was killed may be there and take none for ever.

        Raises:
            PublishError: The broker is away, or has no such queue.
        """
        if await self.depth(queue):
            return True  # it takes some
        canary = aio_pika.Message(b"", app_id=f"broadway-{self._service}", type=PING, expiration=CANARY_LIFE)
        try:
            async with _call(f"{queue.name} takes no message"):
                channel = await self._publish_channel()
                await channel.default_exchange.publish(canary, queue.name, mandatory=True)
        except PublishError as error:
            log.warning("canary not taken", queue=queue.name, reason=str(error))
            await self.ping()
            return False
        return True

    async def replace(self, queue: Queue) -> None:
        """Delete a queue with what is in it, and declare it again.

        Raises:
            PublishError: The broker is away.
        """
        async with _call(f"{queue.name} not replaced", seconds=REPLACE_WITHIN), self._publishing.channel() as channel:
            await channel.queue_delete(queue.name, timeout=REPLACE_WITHIN)
        await self.declare(queue)

    async def declare_topology(self) -> None:
        """Make sure that every exchange and every queue shared by services exists."""
        channel = await self._publish_channel()
        for exchange in EXCHANGES:
            await channel.declare_exchange(
                exchange.name, exchange.kind, durable=True, arguments=exchange.arguments, timeout=CALL_TIMEOUT
            )
        await self.declare(*SHARED_QUEUES)

    async def declare(self, *queues: Queue) -> None:
        """Make sure that queues and their bindings exist.

        Raises:
            PublishError: The broker is away, or has a queue of that name with other arguments.
        """
        limit = CALL_TIMEOUT * len(queues)
        async with _call("queues not declared", seconds=limit), self._publishing.channel() as channel:
            for queue in queues:
                await _declare(channel, queue, robust=False)

    async def depth(self, queue: Queue) -> int:
        """Messages that wait in a queue, not counting those in the hands of consumers.

        Raises:
            PublishError: The broker is away, or has no such queue.
        """
        async with _call(f"no depth of {queue.name}"), self._publishing.channel() as channel:
            declared = await channel.declare_queue(queue.name, passive=True)
            return declared.declaration_result.message_count or 0

    async def publish(self, exchange: Exchange, key: str, event: Event) -> None:
        """Return once the broker has confirmed the event. Repeats, with the same message id, while that is unknown.

        Raises:
            PublishError: Refused, unroutable, or still unknown after ``PUBLISH_DEADLINE``.
        """
        await reach(Point.PUBLISH_BEGUN)
        message = _message(encode(event, source=f"/broadway/{self._service}"), exchange, self._service)
        async for attempt in stamina.retry_context(
            on=_is_unknown, attempts=None, timeout=PUBLISH_DEADLINE, wait_initial=0.1, wait_max=2
        ):
            with attempt:
                await self._publish_once(exchange, key, message)
        await reach(Point.PUBLISH_CONFIRMED)

    async def _publish_once(self, exchange: Exchange, key: str, message: aio_pika.Message) -> None:
        async with _call(f"{exchange.name} did not take {key}"):
            channel = await self._publish_channel()
            target = await channel.get_exchange(exchange.name, ensure=False)
            await target.publish(message, key, mandatory=not exchange.transient)

    async def _publish_channel(self) -> AbstractRobustChannel:
        async with self._publish_lock:
            if self._channel is None:
                self._channel = await _robust_channel(self._publishing)
            return self._channel

    @contextlib.asynccontextmanager
    async def consume(
        self,
        queue: Queue,
        handler: Handler,
        *,
        tag: str,
        prefetch: int = 1,
        channels: int = 1,
        decoder: Decoder = decode,
    ) -> AsyncIterator["Subscription"]:
        """Call ``handler`` for every message of a queue, each in a task of its own, and settle by what it says.

        Returning acknowledges. ``Retry`` calls the handler again after its pause, ``Reject`` moves the message to the
        dead letters, where one that cannot be read goes too. A message that is delivered again while its handler
        still runs starts nothing: the newest delivery is acknowledged in the end. On exit, handlers that still run
        are cancelled and their messages given back.

        Args:
            queue: It is declared, with its bindings, now and after every reconnect.
            handler: Takes the decoded event.
            tag: The consumer tag, as the management UI shows it.
            prefetch: Unacknowledged messages per channel.
            channels: Channels that consume, each with its own prefetch.
            decoder: Reads a message; what it refuses is dead.
        """
        tags = [f"{tag}.{number}" for number in range(channels)] if channels > 1 else [tag]
        subscription = Subscription(self, queue, handler, decoder, tags=tags, prefetch=prefetch)
        try:
            await subscription.start()
            yield subscription
        finally:
            await subscription.close()

    async def consuming_channel(self) -> AbstractRobustChannel:
        """A new channel of the connection that consumes."""
        return await _robust_channel(self._consuming)

    @contextlib.asynccontextmanager
    async def taker(self, queue: Queue, *, tag: str) -> AsyncIterator["Taker"]:
        """Take messages of a queue one at a time, each when it is wanted. What was taken and not settled goes back.

        Raises:
            PublishError: The broker is away.
        """
        # Not a robust channel: that might come back after its taker has gone, with a consumer whom nobody serves.
        channel = Channel(self._consuming, publisher_confirms=False)
        try:
            async with _call(f"{queue.name} cannot be consumed"):
                await channel.initialize()
                await channel.set_qos(prefetch_count=1)
                declared = await _declare(channel, queue, robust=None)
            taker = Taker(self, queue, declared, tag=tag)
            channel.close_callbacks.add(taker.end)
            yield taker
        finally:
            with contextlib.suppress(*_BROKEN_CHANNEL):
                async with asyncio.timeout(CALL_TIMEOUT):
                    await channel.close()

    async def park(self, message: AbstractIncomingMessage, *, queue: Queue, reason: str) -> None:
        """Copy a delivery to the dead letters, with the reason.

        Raises:
            PublishError: As ``publish``.
        """
        headers = {**message.headers, "x-broadway-reason": reason[:1000], "x-broadway-queue": queue.name}
        copy = aio_pika.Message(
            message.body,
            headers=headers,
            content_type=message.content_type,
            message_id=message.message_id,
            type=message.type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await self._publish_once(DEAD_LETTERS, dead_letter_key(queue.name), copy)


class Subscription:
    """Running handlers of one queue's messages, by message id, and the newest delivery of each."""

    def __init__(
        self, rabbit: Rabbit, queue: Queue, handler: Handler, decoder: Decoder, *, tags: Sequence[str], prefetch: int
    ) -> None:
        self._rabbit = rabbit
        self._decoder = decoder
        self._tags = tags
        self._prefetch = prefetch
        self._arrivals = 0
        self._watching: asyncio.Task[None] | None = None
        self._queue = queue
        self._handler = handler
        self._consumers: list[tuple[AbstractRobustChannel, AbstractRobustQueue, str]] = []
        self._deliveries: dict[str, AbstractIncomingMessage] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order of arrival, in which they are given back, too

    async def start(self) -> None:
        """Consume, on a channel for each tag."""
        await self._consume_all()
        if not self._queue.exclusive:
            self._watching = asyncio.create_task(self._watch())

    async def _consume_all(self) -> None:
        for tag in self._tags:
            await self._consume(await self._rabbit.consuming_channel(), tag)

    async def _consume(self, channel: AbstractRobustChannel, tag: str) -> None:
        with heeded():
            await channel.set_qos(prefetch_count=self._prefetch, timeout=CALL_TIMEOUT)
            queue = await _declare(channel, self._queue, robust=True)
            await queue.consume(self._on_message, consumer_tag=tag, timeout=CALL_TIMEOUT)
            self._consumers.append((channel, queue, tag))

    async def _watch(self) -> None:
        """Consume anew when messages wait and none arrives: a consumer may vanish without a word."""
        strikes, arrivals = 0, 0
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            if self._tasks or self._arrivals != arrivals:
                strikes, arrivals = 0, self._arrivals
                continue
            try:
                strikes = strikes + 1 if await self._rabbit.depth(self._queue) else 0
                if strikes >= WATCH_STRIKES:
                    log.error("repair: messages wait and none arrives", queue=self._queue.name)
                    strikes = 0
                    await self._consume_anew()
            except (PublishError, *_BROKEN_CHANNEL) as error:
                log.warning("consumer not looked after", queue=self._queue.name, reason=str(error))

    async def _consume_anew(self) -> None:
        while self._consumers:
            channel, _, _ = self._consumers.pop()
            with contextlib.suppress(*_BROKEN_CHANNEL):
                await channel.close()
        await self._consume_all()

    async def stop_taking(self) -> None:
        """Take no further messages; handlers go on."""
        if self._watching:
            await end(self._watching)
        for _, queue, tag in self._consumers:
            with contextlib.suppress(*_BROKEN_CHANNEL):
                await queue.cancel(tag, timeout=CALL_TIMEOUT)

    async def finish(self, *, grace: float) -> None:
        """Wait for running handlers, ``grace`` seconds at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)

    async def close(self) -> None:
        """Stop taking, cancel what still runs, give its messages back, close the channels."""
        await self.stop_taking()
        await end(*self._tasks)
        for channel, _, _ in self._consumers:
            with contextlib.suppress(*_BROKEN_CHANNEL):
                await channel.close()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        """Start a handler, and return at once: aio-pika cancels this coroutine when the channel breaks."""
        if message.type == PING:
            await _quietly(message.ack())
            return
        self._arrivals += 1
        key = message.message_id or f"{id(self)}:{message.delivery_tag}"
        previous = self._deliveries.get(key)
        self._deliveries[key] = message
        if previous is None:
            task = asyncio.create_task(self._run(key), name=f"{self._queue.name}:{key}")
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)
        else:
            log.info("delivered again while running", queue=self._queue.name, message_id=key)
            await _quietly(previous.ack())

    async def _run(self, key: str) -> None:
        first = self._deliveries[key]
        try:
            await reach(Point.DELIVERY_ARRIVED)
            await self._handle(self._decoder(first.headers, first.body), key)
            await reach(Point.DELIVERY_HANDLED)
        except (Reject, UndecodableError) as problem:
            await self._park(key, reason=str(problem))
        except asyncio.CancelledError:
            await _quietly(self._deliveries.pop(key).nack(requeue=True))
            raise
        except Exception:
            log.exception("handler failed", queue=self._queue.name, message_id=key)
            await self._give_back(key, delay=BACK_OFF_AFTER_A_BUG)
        else:
            await _quietly(self._deliveries.pop(key).ack())
            await reach(Point.DELIVERY_ACKNOWLEDGED)

    async def _handle(self, event: Event, key: str) -> None:
        """Call the handler until it does not ask for another try.

        The delivery is kept meanwhile: giving it back would count against the queue's delivery limit, and a store
        that is away for some minutes would turn good messages into dead letters.
        """
        while True:
            try:
                return await self._handler(event)
            except Retry as retry:
                log.info("trying again", queue=self._queue.name, message_id=key, reason=str(retry), delay=retry.delay)
                await asyncio.sleep(retry.delay)

    async def _give_back(self, key: str, *, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
        finally:
            await _quietly(self._deliveries.pop(key).nack(requeue=True))

    async def _park(self, key: str, *, reason: str) -> None:
        log.error("dead letter", queue=self._queue.name, message_id=key, reason=reason)
        message = self._deliveries[key]
        try:
            await self._rabbit.park(message, queue=self._queue, reason=reason)
        except PublishError as error:
            log.warning("dead letter not parked", queue=self._queue.name, error=str(error))
            await self._give_back(key, delay=BACK_OFF_AFTER_A_BUG)
        else:
            await _quietly(self._deliveries.pop(key).ack())


@dataclass(slots=True)
class Taken:
    """A message in the hands of its taker, until it is settled."""

    event: Event
    _message: AbstractIncomingMessage

    async def ack(self) -> None:
        """It is done with."""
        await _quietly(self._message.ack())

    async def give_back(self) -> None:
        """Somebody else shall have it."""
        await _quietly(self._message.nack(requeue=True))


class Taker:
    """A consumer that is there only while its owner waits for a message."""

    def __init__(self, rabbit: Rabbit, queue: Queue, declared: AbstractQueue, *, tag: str) -> None:
        self._rabbit = rabbit
        self._queue = queue
        self._declared = declared
        self._tag = tag
        self._arrivals: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

    def end(self, *_: Any) -> None:
        """The channel is closed: nothing will arrive any more."""
        self._arrivals.put_nowait(None)

    async def take(self, *, within: float | None = None) -> Taken | None:
        """Wait for a message, ``within`` seconds at most or for ever; None if there was none.

        Raises:
            PublishError: The broker is away.
        """
        async with _call(f"{self._queue.name} cannot be consumed"):
            await self._declared.consume(self._arrivals.put, consumer_tag=self._tag)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    return await self._readable()
        finally:
            await self._stop()
        return await self._readable() if not self._arrivals.empty() else None

    async def _readable(self) -> Taken:
        """The next message that can be read; others go to the dead letters."""
        while True:
            message = await self._arrivals.get()
            if message is None:
                self.end()  # for whoever asks again
                raise PublishError(f"{self._queue.name} cannot be consumed: its channel is closed", unknown=True)
            if message.type == PING:
                await _quietly(message.ack())
                continue
            try:
                return Taken(decode(message.headers, message.body), message)
            except UndecodableError as problem:
                log.error("dead letter", queue=self._queue.name, reason=str(problem))  # noqa: TRY400 - no bug of ours
                await self._rabbit.park(message, queue=self._queue, reason=str(problem))
                await _quietly(message.ack())

    async def _stop(self) -> None:
        with heeded(), contextlib.suppress(*_BROKEN_CHANNEL):
            await self._declared.cancel(self._tag, timeout=CALL_TIMEOUT)


@contextlib.asynccontextmanager
async def _call(problem: str, *, seconds: float = CALL_TIMEOUT) -> AsyncIterator[None]:
    """One conversation with the broker, within a time limit; whatever breaks it becomes a PublishError.

    Things are told apart that aiormq mixes up: it cancels whoever waits when a connection breaks, which is not our
    cancellation; it may turn our cancellation into an error of the channel that it closes; and it may lose ours
    when an answer arrives at the same moment.
    """
    before = cancellations()
    try:
        with heeded():
            async with asyncio.timeout(seconds):
                yield
    except DeliveryError as error:
        raise PublishError(f"{problem}: refused: {error!r}", unknown=False) from error
    except (*_BROKEN_CHANNEL, asyncio.CancelledError) as error:
        if cancellations() > before:
            raise asyncio.CancelledError from error
        raise PublishError(f"{problem}: {error!r}", unknown=True) from error


async def _quietly(settling: Any) -> None:
    """Settle a delivery; if its channel is gone the broker delivers it again, which handlers are made for."""
    try:
        await settling
    except ChannelInvalidStateError:
        log.debug("delivery outlived its channel")
    except _BROKEN_CHANNEL as error:
        log.warning("delivery not settled", error=repr(error))


async def _connect(url: str, *, name: str) -> AbstractRobustConnection:
    properties: dict[str, Any] = {"connection_name": name, "product": "Broadway", "version": __version__}
    address = URL(url)
    target = address.update_query(heartbeat=HEARTBEAT, reconnect_interval=RECONNECT_INTERVAL)
    try:
        return await aio_pika.connect_robust(str(target), client_properties=properties, timeout=CALL_TIMEOUT)
    except _BROKEN_CHANNEL as error:
        where = f"{address.host}:{address.port}{address.path}"
        raise BrokerUnreachableError(f"no connection to the broker at {where}: {error}") from error


async def _robust_channel(connection: AbstractRobustConnection) -> AbstractRobustChannel:
    async with asyncio.timeout(CALL_TIMEOUT):
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    assert isinstance(channel, AbstractRobustChannel)  # noqa: S101 - for the type checker
    return channel


async def _declare(channel: Any, queue: Queue, *, robust: bool | None) -> Any:
    """Declare a queue with its bindings; ``robust`` for channels that come back: whether it does, too."""
    options = {} if robust is None else {"robust": robust}
    declared = await channel.declare_queue(
        queue.name,
        durable=not queue.exclusive,
        exclusive=queue.exclusive,
        arguments=queue.arguments,
        timeout=CALL_TIMEOUT,
        **options,
    )
    for binding in queue.bindings:
        await declared.bind(binding.exchange, binding.key, timeout=CALL_TIMEOUT, **options)
    return declared


def _message(wire: Wire, exchange: Exchange, service: str) -> aio_pika.Message:
    durable = aio_pika.DeliveryMode.NOT_PERSISTENT if exchange.transient else aio_pika.DeliveryMode.PERSISTENT
    headers: Mapping[str, Any] = wire.headers
    return aio_pika.Message(
        wire.body,
        headers=dict(headers),
        content_type=wire.content_type,
        message_id=wire.message_id,
        type=wire.type,
        app_id=f"broadway-{service}",
        delivery_mode=durable,
    )


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, PublishError) and error.unknown

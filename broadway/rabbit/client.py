"""A service's connections to the broker: to publish with confirms, to declare and to consume."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Self

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustConnection
from aio_pika.channel import Channel
from aio_pika.connection import Connection
from aio_pika.exceptions import ChannelNotFoundEntity
from aio_pika.robust_connection import RobustConnection
from yarl import URL

from broadway.messages.envelope import Decoder, Wire, decode
from broadway.messages.events import Event
from broadway.messages.topology import EXCHANGES, SHARED_QUEUES, Exchange, Queue
from broadway.ports import Handler, PublishError, QueueState, QueueTakenError
from broadway.rabbit.calls import BROKEN, CALL_TIMEOUT, call, channel_of, close
from broadway.rabbit.connecting import (
    HEARTBEAT,
    BrokerUnreachableError,
    LoginRefusedError,
    connect,
    robust_channel,
    target,
    unconnected,
    unreachable,
)
from broadway.rabbit.declaring import declare, state_of
from broadway.rabbit.deliveries import Handling, Instant, Vouched, never, unknown
from broadway.rabbit.probing import accepts, pass_message
from broadway.rabbit.publishing import ConfirmedPublisher
from broadway.rabbit.single_take import SingleTake
from broadway.rabbit.subscription import TIMINGS, Subscription, Timings
from broadway.rabbit.unconfirmed import UnconfirmedPublisher

log = structlog.get_logger(__name__)

REPLACE_WITHIN = 30  # seconds; deleting a broken queue is slow


class Rabbit:
    """A service's two connections to the broker: one to publish, one to consume.

    They are separate because a broker with a resource alarm stops reading from connections that publish, which would
    block acknowledgments on the same connection.
    """

    def __init__(
        self,
        publishing: AbstractRobustConnection,
        consuming: AbstractRobustConnection,
        *,
        url: str,
        service: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._tls = tls
        self._publishing = publishing
        self._consuming = consuming
        self._service = service
        self._publisher = ConfirmedPublisher(publishing, service=service)
        self._unconfirmed = UnconfirmedPublisher(publishing, service=service)

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, *, service: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Open both connections; ``service`` names them in the management UI, such as ``grader@host1``.

        ``tls`` is for ``amqps://``; without it the system's authorities are trusted.

        Raises:
            BrokerUnreachableError: A connection could not be opened.
        """
        async with contextlib.AsyncExitStack() as stack:
            publishing = await connect(url, name=f"broadway-{service} (publish)", tls=tls)
            stack.push_async_callback(publishing.close)
            consuming = await connect(url, name=f"broadway-{service} (consume)", tls=tls)
            stack.push_async_callback(consuming.close)
            yield cls(publishing, consuming, url=url, service=service, tls=tls)

    @classmethod
    @contextlib.asynccontextmanager
    async def unconnected(cls, url: str, *, service: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Create both connections without opening them: until ``join`` has returned, the broker is unavailable."""
        async with contextlib.AsyncExitStack() as stack:
            publishing = unconnected(url, name=f"broadway-{service} (publish)", tls=tls)
            stack.push_async_callback(publishing.close)
            consuming = unconnected(url, name=f"broadway-{service} (consume)", tls=tls)
            stack.push_async_callback(consuming.close)
            yield cls(publishing, consuming, url=url, service=service, tls=tls)

    async def join(self) -> None:
        """Open both connections, unless they are open.

        Raises:
            BrokerUnreachableError: The broker is unavailable, or refuses the login.
        """
        if self.is_connected:
            return
        await self.reach(self._url, within=CALL_TIMEOUT, tls=self._tls)
        for connection in (self._publishing, self._consuming):
            await connection.connect(timeout=CALL_TIMEOUT)

    @staticmethod
    async def reach(url: str, *, within: float, tls: ssl.SSLContext | None = None) -> None:
        """Log in and disconnect, as a test. ``connect`` does not end if a broker accepts a connection and is silent.

        An attempt that fails is closed, too, unlike one of ``aio_pika.connect``: that one is closed by its finalizer,
        which may run in a thread without a loop.

        Raises:
            BrokerUnreachableError: The login failed, or took more than ``within`` seconds.
        """
        address = URL(url)
        connection = Connection(address.update_query(heartbeat=HEARTBEAT), ssl_context=tls)
        try:
            async with asyncio.timeout(within):
                await connection.connect()
                await connection.close()
        except BROKEN as error:
            raise unreachable(address, error) from error
        finally:
            await connection.close()

    @property
    def is_connected(self) -> bool:
        """True while both connections are open."""
        return all(c.connected.is_set() for c in (self._publishing, self._consuming))

    @property
    def user(self) -> str:
        """The user of the connections. The broker refuses messages that name another user as their sender."""
        return URL(self._url).user or "guest"

    async def is_refused(self) -> bool:
        """Return whether the broker is available and refuses our login."""
        try:
            await (await connect(self._url, name=f"broadway-{self._service} (probe)", tls=self._tls)).close()
        except LoginRefusedError:
            return True
        except BrokerUnreachableError:
            return False
        return False

    def move(self, url: str) -> None:
        """Use another address or password for all connections that are opened from now on."""
        self._url = url
        for connection in (self._publishing, self._consuming):
            assert isinstance(connection, RobustConnection)  # noqa: S101 - for the type checker
            connection.url = target(URL(url))

    async def ping(self) -> None:
        """Return once the broker has taken a message: it is connected, and not blocked by an alarm.

        Raises:
            PublishError: The broker is not connected, or did not take the message.
        """
        if not self.is_connected:
            raise PublishError("not connected", unknown=False)
        await pass_message(self._publishing, service=self._service)

    async def accepts(self, queue: Queue) -> bool:
        """Return whether a queue takes a message, by sending it a probe message.

        A queue that was declared less than a second before its broker was killed may exist and never take a message.

        Raises:
            PublishError: The broker is unavailable, or has no such queue.
        """
        return await accepts(self._publishing, queue, service=self._service)

    async def replace(self, queue: Queue) -> None:
        """Delete a queue with its messages, and declare it again.

        Raises:
            PublishError: The broker is unavailable.
        """
        async with call(f"{queue.name} not replaced", seconds=REPLACE_WITHIN), channel_of(self._publishing) as channel:
            await channel.queue_delete(queue.name, timeout=REPLACE_WITHIN)
        await self.declare(queue)

    async def declare_topology(self) -> None:
        """Declare every exchange, and every queue that services share.

        Raises:
            PublishError: As ``declare``.
        """
        async with call("exchanges not declared", seconds=CALL_TIMEOUT * len(EXCHANGES)):
            channel = await self._publisher.channel()
            for exchange in EXCHANGES:
                await channel.declare_exchange(
                    exchange.name, exchange.kind, durable=True, arguments=exchange.arguments, timeout=CALL_TIMEOUT
                )
        await self.declare(*SHARED_QUEUES)

    async def declare(self, *queues: Queue) -> None:
        """Declare queues with their bindings.

        Raises:
            PublishError: The broker is unavailable, or has a queue of that name with other arguments.
        """
        limit = CALL_TIMEOUT * len(queues)
        async with call("queues not declared", seconds=limit), channel_of(self._publishing) as channel:
            for queue in queues:
                await declare(channel, queue, robust=False)

    async def restore(self, queue: Queue) -> int:
        """Declare a queue with its bindings; return the number of messages that wait in it.

        Raises:
            PublishError: As ``declare``.
        """
        async with call(f"{queue.name} not declared"), channel_of(self._publishing) as channel:
            declared = await declare(channel, queue, robust=False)
            return declared.declaration_result.message_count or 0

    async def depth(self, queue: Queue) -> int:
        """Return the number of messages that wait in a queue, without the unacknowledged messages of its consumers.

        Raises:
            PublishError: The broker is unavailable, or has no such queue.
        """
        async with call(f"no depth of {queue.name}"), channel_of(self._publishing) as channel:
            return (await state_of(channel, queue)).waiting

    async def purge(self, queue: Queue) -> int:
        """Discard the messages that wait in a queue, without those that consumers have; return their number.

        A missing queue is declared.

        Raises:
            PublishError: As ``declare``.
        """
        async with call(f"{queue.name} not emptied"), channel_of(self._publishing) as channel:
            declared = await declare(channel, queue, robust=False)
            return (await declared.purge(timeout=CALL_TIMEOUT)).message_count or 0

    async def queue_state(self, queue: Queue) -> QueueState | None:
        """Return the state of a queue; None if the queue does not exist.

        Raises:
            PublishError: The broker is unavailable.
        """
        async with call(f"no state of {queue.name}"), channel_of(self._publishing) as channel:
            try:
                return await state_of(channel, queue)
            except ChannelNotFoundEntity:
                return None

    async def is_taken(self, queue: Queue) -> bool:
        """Return whether an exclusive queue exists, which only its connection may use.

        Raises:
            PublishError: The broker is unavailable.
        """
        try:
            return await self.queue_state(queue) is not None
        except QueueTakenError:
            return True

    async def has(self, exchange: Exchange) -> bool:
        """Return whether an exchange exists.

        Raises:
            PublishError: The broker is unavailable.
        """
        async with call(f"no state of {exchange.name}"), channel_of(self._publishing) as channel:
            try:
                await channel.get_exchange(exchange.name, ensure=True)
            except ChannelNotFoundEntity:
                return False
            return True

    async def publish(self, exchange: Exchange, key: str, event: Event) -> None:
        """Return once the broker has confirmed the event. Retry with the same message id while the result is unknown.

        Raises:
            PublishError: The event was refused or unroutable, or its result is still unknown after 30 seconds.
        """
        await self._publisher.publish(exchange, key, event, user=self.user)

    async def send(self, exchange: Exchange, key: str, event: Event) -> None:
        """Return once an event is written; it may get lost.

        Raises:
            PublishError: It could not be written.
        """
        await self._unconfirmed.send(exchange, key, event, user=self.user)

    @contextlib.asynccontextmanager
    async def consume(
        self,
        queue: Queue,
        handler: Handler,
        *,
        tag: str,
        prefetch: int = 1,
        channels: int = 1,
        priority: int = 0,
        decoder: Decoder = decode,
        is_guest: bool = False,
        vouched: Vouched = unknown,
        at_once: Instant = never,
        most_events: int | None = None,
        timings: Timings = TIMINGS,
    ) -> AsyncIterator[Subscription]:
        """Call ``handler`` for every event of a queue, each in a task of its own, and settle by its result.

        A message with several events (a batch) is acknowledged when the last of them is settled.

        A return acknowledges the message. ``Retry`` calls the handler again after its delay, ``Reject`` moves the
        message to the dead letters, and ``GiveBack`` requeues it for another consumer. Undecodable messages are dead
        letters, too. A message that is delivered again while its handler runs starts no second handler; its newest
        delivery is acknowledged in the end. A durable queue that cannot be consumed now is consumed as soon as
        possible. On exit, running handlers are cancelled and their messages requeued.

        Args:
            queue: The queue. It is declared with its bindings, now and after every reconnect.
            handler: Takes the decoded event.
            tag: The consumer tag, as the management UI shows it.
            prefetch: The maximum number of unacknowledged messages per channel.
            channels: The number of consuming channels, each with its own prefetch; ``take`` changes it.
            priority: A consumer gets messages only while no other of a higher priority has room for them.
            decoder: Decodes a message; a message that it refuses is a dead letter.
            is_guest: May only read the queue. The queue must exist, and the broker moves dead letters, without a
                reason.
            vouched: Returns whether an event of a grader is genuine, in addition to the check of the grader's id. By
                default no event of a grader reaches the handler.
            at_once: Handles an event of a batch of a service without a task, or returns False if the handler must.
            most_events: While this number of events is handled, further messages wait in memory, undecoded.
            timings: The pauses and limits of the subscription.
        """
        handling = Handling(
            handler=handler,
            decoder=decoder,
            vouched=vouched,
            at_once=at_once,
            most_events=most_events,
            is_guest=is_guest,
            back_off=timings.back_off_after_a_bug,
        )
        subscription = Subscription(
            self,
            queue,
            handling,
            tag=tag,
            prefetch=prefetch,
            priority=priority,
            timings=timings,
        )
        try:
            await subscription.start(channels)
            yield subscription
        finally:
            await subscription.close()

    async def consuming_channel(self) -> AbstractRobustChannel:
        """Open a channel on the consuming connection."""
        return await robust_channel(self._consuming)

    @contextlib.asynccontextmanager
    async def single_take(self, queue: Queue, *, tag: str) -> AsyncIterator[SingleTake]:
        """Consume a queue one message at a time, on demand. On exit, messages that are not settled are requeued.

        Raises:
            PublishError: The broker is unavailable.
        """
        # Not a robust channel, which could be restored after its owner has ended, with a consumer that gets no handler.
        channel = Channel(self._consuming, publisher_confirms=False)
        try:
            async with call(f"{queue.name} cannot be consumed"):
                await channel.initialize()
                await channel.set_qos(prefetch_count=1)
                declared = await declare(channel, queue, robust=None)
            consumer = SingleTake(self, queue, declared, tag=tag)
            channel.close_callbacks.add(consumer.end)
            yield consumer
        finally:
            await close(channel)

    async def park(
        self, message: AbstractIncomingMessage | Wire, *, queue: Queue, reason: str, is_oversized: bool = False
    ) -> None:
        """Copy a delivery to the dead letters, with the reason; of an oversized one only its beginning.

        Raises:
            PublishError: The broker did not confirm the copy; it is not retried.
        """
        await self._publisher.park(message, queue=queue, reason=reason, user=self.user, is_oversized=is_oversized)

"""One service's way to the broker: publishing with confirms, declaring, consuming."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Self

import aio_pika
import structlog
from aio_pika.abc import (
    AbstractIncomingMessage,
    AbstractRobustChannel,
    AbstractRobustConnection,
)
from aio_pika.channel import Channel
from aio_pika.exceptions import (
    ChannelNotFoundEntity,
)
from aio_pika.robust_connection import RobustConnection
from yarl import URL

from broadway.messages.envelope import Decoder, decode
from broadway.messages.events import Event
from broadway.messages.topology import (
    EXCHANGES,
    SHARED_QUEUES,
    Exchange,
    Queue,
)
from broadway.ports import Handler, PublishError, QueueState
from broadway.rabbit.calls import BROKEN, CALL_TIMEOUT, call
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
from broadway.rabbit.declaring import declare, look
from broadway.rabbit.probing import accepts, pass_message
from broadway.rabbit.publishing import ConfirmedPublisher
from broadway.rabbit.single_take import SingleTake
from broadway.rabbit.subscription import TIMINGS, Subscription, Timings, Vouched, anything

log = structlog.get_logger(__name__)

REPLACE_WITHIN = 30  # seconds; deleting a broken queue takes some


class Rabbit:
    """One service's two connections to the broker: one publishes, one consumes.

    They are apart because a broker with a resource alarm stops reading from connections that publish, and acks sent
    on such a connection would be stuck with it.
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

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, *, service: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Connect both ways; ``service`` names the connections in the management UI, such as ``grader@host1``.

        ``tls`` is for ``amqps://``; without it the system's authorities are trusted.

        Raises:
            BrokerUnreachableError: The first connection could not be made.
        """
        publishing = await connect(url, name=f"broadway-{service} (publish)", tls=tls)
        try:
            consuming = await connect(url, name=f"broadway-{service} (consume)", tls=tls)
        except BaseException:
            await publishing.close()
            raise
        rabbit = cls(publishing, consuming, url=url, service=service, tls=tls)
        try:
            yield rabbit
        finally:
            await consuming.close()
            await publishing.close()

    @classmethod
    @contextlib.asynccontextmanager
    async def unconnected(cls, url: str, *, service: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """As ``connect``, but at once: until ``join`` has connected, the broker is away."""
        publishing = unconnected(url, name=f"broadway-{service} (publish)", tls=tls)
        consuming = unconnected(url, name=f"broadway-{service} (consume)", tls=tls)
        try:
            yield cls(publishing, consuming, url=url, service=service, tls=tls)
        finally:
            await consuming.close()
            await publishing.close()

    async def join(self) -> None:
        """Connect both ways, unless that is done.

        Raises:
            BrokerUnreachableError: There is no broker to connect to.
        """
        if self.is_connected:
            return
        await self.reach(self._url, within=CALL_TIMEOUT, tls=self._tls)
        for connection in (self._publishing, self._consuming):
            await connection.connect(timeout=CALL_TIMEOUT)

    @staticmethod
    async def reach(url: str, *, within: float, tls: ssl.SSLContext | None = None) -> None:
        """Log in once and leave again. ``connect`` is no question: in a broker that says nothing it goes on for ever.

        Raises:
            BrokerUnreachableError: The broker does not let us in, or not ``within`` seconds.
        """
        address = URL(url)
        try:
            async with asyncio.timeout(within):
                target = str(address.update_query(heartbeat=HEARTBEAT))
                connection = await aio_pika.connect(target, ssl_context=tls)
                await connection.close()
        except BROKEN as error:
            raise unreachable(address, error) from error

    @property
    def is_connected(self) -> bool:
        """Whether both connections are up just now."""
        return all(c.connected.is_set() for c in (self._publishing, self._consuming))

    @property
    def user(self) -> str:
        """Who we are to the broker. It refuses messages that say they are from somebody else."""
        return URL(self._url).user or "guest"

    async def is_refused(self) -> bool:
        """Whether the broker is there and does not let us in any more."""
        try:
            await (await connect(self._url, name=f"broadway-{self._service} (probe)", tls=self._tls)).close()
        except LoginRefusedError:
            return True
        except BrokerUnreachableError:
            return False
        return False

    def move(self, url: str) -> None:
        """Use another address, or another password, for all connections that are made from now on."""
        self._url = url
        for connection in (self._publishing, self._consuming):
            assert isinstance(connection, RobustConnection)  # noqa: S101 - for the type checker
            connection.url = target(URL(url))

    async def ping(self) -> None:
        """Return when the broker takes a message: connected, and not blocked by an alarm.

        Raises:
            PublishError: It does not.
        """
        if not self.is_connected:
            raise PublishError("not connected", unknown=False)
        await pass_message(self._publishing, service=self._service)

    async def accepts(self, queue: Queue) -> bool:
        """Whether a queue takes a message, tried with one that nobody needs.

        A queue that was declared less than a second before its broker was killed may be there and take none for ever.

        Raises:
            PublishError: The broker is away, or has no such queue.
        """
        return await accepts(self._publishing, queue, service=self._service)

    async def replace(self, queue: Queue) -> None:
        """Delete a queue with what is in it, and declare it again.

        Raises:
            PublishError: The broker is away.
        """
        async with call(f"{queue.name} not replaced", seconds=REPLACE_WITHIN), self._publishing.channel() as channel:
            await channel.queue_delete(queue.name, timeout=REPLACE_WITHIN)
        await self.declare(queue)

    async def declare_topology(self) -> None:
        """Make sure that every exchange and every queue shared by services exists.

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
        """Make sure that queues and their bindings exist.

        Raises:
            PublishError: The broker is away, or has a queue of that name with other arguments.
        """
        limit = CALL_TIMEOUT * len(queues)
        async with call("queues not declared", seconds=limit), self._publishing.channel() as channel:
            for queue in queues:
                await declare(channel, queue, robust=False)

    async def restore(self, queue: Queue) -> int:
        """Make sure that a queue and its bindings exist; how many messages wait in it.

        Raises:
            PublishError: As ``declare``.
        """
        async with call(f"{queue.name} not declared"), self._publishing.channel() as channel:
            declared = await declare(channel, queue, robust=False)
            return declared.declaration_result.message_count or 0

    async def depth(self, queue: Queue) -> int:
        """Messages that wait in a queue, not counting those in the hands of consumers.

        Raises:
            PublishError: The broker is away, or has no such queue.
        """
        async with call(f"no depth of {queue.name}"), self._publishing.channel() as channel:
            return (await look(channel, queue)).waiting

    async def look(self, queue: Queue) -> QueueState | None:
        """What a queue is like; None when there is none of that name.

        Raises:
            PublishError: The broker is away.
        """
        async with call(f"no look at {queue.name}"), self._publishing.channel() as channel:
            try:
                return await look(channel, queue)
            except ChannelNotFoundEntity:
                return None

    async def has(self, exchange: Exchange) -> bool:
        """Whether there is an exchange of that name.

        Raises:
            PublishError: The broker is away.
        """
        async with call(f"no look at {exchange.name}"), self._publishing.channel() as channel:
            try:
                await channel.get_exchange(exchange.name, ensure=True)
            except ChannelNotFoundEntity:
                return False
            return True

    async def publish(self, exchange: Exchange, key: str, event: Event) -> None:
        """Return once the broker has confirmed the event. Repeats, with the same message id, while that is unknown.

        Raises:
            PublishError: Refused, unroutable, or still unknown after 30 seconds.
        """
        await self._publisher.publish(exchange, key, event, user=self.user)

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
        is_guest: bool = False,
        vouched: Vouched = anything,
        timings: Timings = TIMINGS,
    ) -> AsyncIterator[Subscription]:
        """Call ``handler`` for every message of a queue, each in a task of its own, and settle by what it says.

        Returning acknowledges. ``Retry`` calls the handler again after its pause, ``Reject`` moves the message to the
        dead letters, where one that cannot be read goes too. A message that is delivered again while its handler
        still runs starts nothing: the newest delivery is acknowledged in the end. ``GiveBack`` leaves it to another
        consumer. A durable queue that cannot be consumed now is consumed as soon as it can be. On exit, handlers that
        still run are cancelled and their messages given back.

        Args:
            queue: It is declared, with its bindings, now and after every reconnect.
            handler: Takes the decoded event.
            tag: The consumer tag, as the management UI shows it.
            prefetch: Unacknowledged messages per channel.
            channels: Channels that consume, each with its own prefetch; ``take`` changes their number.
            decoder: Reads a message; what it refuses is dead.
            is_guest: May read the queue and no more: it has to be there, and what is dead is moved by the broker,
                without a reason.
            vouched: Whether an event may come from a grader, whoever it says that it is.
            timings: The pauses and limits of the subscription.
        """
        subscription = Subscription(
            self,
            queue,
            handler,
            decoder,
            tag=tag,
            prefetch=prefetch,
            is_guest=is_guest,
            vouched=vouched,
            timings=timings,
        )
        try:
            await subscription.start(channels)
            yield subscription
        finally:
            await subscription.close()

    async def consuming_channel(self) -> AbstractRobustChannel:
        """A new channel of the connection that consumes."""
        return await robust_channel(self._consuming)

    @contextlib.asynccontextmanager
    async def single_take(self, queue: Queue, *, tag: str) -> AsyncIterator[SingleTake]:
        """Take messages of a queue one at a time, each when it is wanted. What was taken and not settled goes back.

        Raises:
            PublishError: The broker is away.
        """
        # Not a robust channel: that might come back after its owner has gone, with a consumer that nothing serves.
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
            with contextlib.suppress(*BROKEN):
                async with asyncio.timeout(CALL_TIMEOUT):
                    await channel.close()

    async def park(self, message: AbstractIncomingMessage, *, queue: Queue, reason: str) -> None:
        """Copy a delivery to the dead letters, with the reason.

        Raises:
            PublishError: As ``publish``.
        """
        await self._publisher.park(message, queue=queue, reason=reason)

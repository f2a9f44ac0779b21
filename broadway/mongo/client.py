"""A MongoDB client that reads every document, and that can be cancelled while it waits for a server."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from bson.codec_options import DatetimeConversion
from pymongo import AsyncMongoClient
from pymongo.asynchronous.pool import AsyncConnection, Pool
from pymongo.errors import ConfigurationError, PyMongoError

from broadway.mongo.collection import Document
from broadway.mongo.errors import UNUSABLE, StoreUnreachableError, unreachable


@dataclass(slots=True)
class Answers:
    """The time of a server's last answer, on the monotonic clock."""

    last: float = float("-inf")


class _Pool(Pool):
    """Connections that note when a server has answered on them, and that survive cancellations while they are opened.

    In pymongo a cancellation at that moment would lose the socket, which stayed open until it is collected as garbage.
    Here it is opened to the end, and closed.
    """

    def __init__(self, answers: Answers, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._answers = answers

    async def checkin(self, conn: AsyncConnection) -> None:
        if not conn.closed:  # an operation that got no answer closes its connection
            self._answers.last = time.monotonic()
        await super().checkin(conn)

    async def connect(self, handler: Any = None) -> AsyncConnection:
        opening = asyncio.ensure_future(super().connect(handler))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close)
            raise


class Client(AsyncMongoClient[Document]):
    """A MongoDB client that survives cancellations.

    In pymongo every operation first waits for a server. If that wait is interrupted at the wrong moment, as when
    several operations are cancelled together, it leaves a lock taken forever, and all later operations wait for the
    lock. Here the wait therefore continues without its caller, until the server selection timeout at most.

    Text that is not UTF-8 and times that Python does not have are replaced when they are read, since one such document
    would otherwise make every read of a list fail that contains it.
    """

    def __init__(self, dsn: str, **options: Any) -> None:
        self.answers = Answers()
        super().__init__(
            dsn,
            tz_aware=True,
            unicode_decode_error_handler="replace",
            datetime_conversion=DatetimeConversion.DATETIME_CLAMP.name,
            _pool_class=partial(_Pool, self.answers),
            **options,
        )

    async def _select_server(self, *args: Any, **kwargs: Any) -> Any:
        selection = asyncio.ensure_future(super()._select_server(*args, **kwargs))
        selection.add_done_callback(_retrieve)
        return await asyncio.shield(selection)


@contextlib.asynccontextmanager
async def connected(dsn: str, *, server_timeout: float, service: str) -> AsyncIterator[Client]:
    """Connect to a store that answers; nothing in it is changed.

    Args:
        dsn: A MongoDB connection string.
        server_timeout: Seconds to wait for a server.
        service: The name of the connection, as the server shows it.

    Raises:
        StoreUnreachableError: The address is invalid, or no usable server answers within the timeout.
    """
    try:
        client = Client(dsn, serverSelectionTimeoutMS=int(server_timeout * 1000), appname=f"broadway-{service}")
    except (ConfigurationError, ValueError) as error:  # its text may contain a part of the password
        raise StoreUnreachableError(UNUSABLE) from error
    async with client:
        try:
            await client.admin.command("ping")
        except (ConnectionError, PyMongoError) as error:
            raise StoreUnreachableError(unreachable(error)) from error
        yield client


def _retrieve(selection: "asyncio.Future[Any]") -> None:
    """Retrieve an error whose caller may be gone, so that asyncio does not log it."""
    if not selection.cancelled():
        selection.exception()


_closing: set["asyncio.Task[None]"] = set()


def _close(opening: "asyncio.Future[AsyncConnection]") -> None:
    """Close a connection whose caller is gone."""
    if not opening.cancelled() and opening.exception() is None:
        closing = asyncio.ensure_future(opening.result().close_conn(None))
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)

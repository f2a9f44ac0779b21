"""Connections to the broker, and the errors of opening them."""

import asyncio
import ssl
from typing import Any

from aio_pika.abc import (
    AbstractRobustChannel,
    AbstractRobustConnection,
)
from aio_pika.exceptions import (
    ProbableAuthenticationError,
)
from yarl import URL

from broadway import __version__
from broadway.rabbit.calls import BROKEN, CALL_TIMEOUT
from broadway.rabbit.joined_writes import JoiningConnection
from broadway.runtime.tls import distrust

HEARTBEAT = 10  # seconds; a frozen peer is detected after about three heartbeats
RECONNECT_INTERVAL = 1  # seconds


class BrokerUnreachableError(ConnectionError):
    """The broker is unreachable, or refused the login."""


class UntrustedError(BrokerUnreachableError):
    """The certificate of the server at the broker's address is not trusted."""


class LoginRefusedError(BrokerUnreachableError):
    """The broker does not know the user, or the password is wrong."""


async def connect(url: str, *, name: str, tls: ssl.SSLContext | None) -> AbstractRobustConnection:
    """Return an open connection, which reconnects by itself.

    An attempt that fails or is cancelled leaves nothing behind, unlike one of ``aio_pika.connect_robust``: that goes on
    in a task that no caller can reach.

    Raises:
        BrokerUnreachableError: The broker is unavailable, or refuses the login.
    """
    address = URL(url)
    connection = JoiningConnection(target(address), client_properties=_properties(name), ssl_context=tls)
    try:
        await connection.connect(timeout=CALL_TIMEOUT)
    except BaseException as error:
        await connection.close()
        if isinstance(error, BROKEN):
            raise unreachable(address, error) from error
        raise
    return connection


def unconnected(url: str, *, name: str, tls: ssl.SSLContext | None) -> JoiningConnection:
    """Return an unopened connection; opening it retries until the broker is available."""
    retrying = target(URL(url)).update_query(fail_fast=0)
    return JoiningConnection(retrying, client_properties=_properties(name), ssl_context=tls)


def _properties(name: str) -> dict[str, Any]:
    return {"connection_name": name, "product": "Broadway", "version": __version__}


def unreachable(address: URL, error: BaseException) -> BrokerUnreachableError:
    where = f"{address.host}:{address.port}{address.path}"
    if reason := distrust(error):
        return UntrustedError(f"the certificate of the broker at {where} is not trusted: {reason}")
    if isinstance(error, ProbableAuthenticationError):
        return LoginRefusedError(f"the broker at {where} refuses the login of {address.user or 'guest'}")
    return BrokerUnreachableError(f"no connection to the broker at {where}: {str(error) or type(error).__name__}")


def target(address: URL) -> URL:
    return address.update_query(heartbeat=HEARTBEAT, reconnect_interval=RECONNECT_INTERVAL)


async def robust_channel(connection: AbstractRobustConnection) -> AbstractRobustChannel:
    async with asyncio.timeout(CALL_TIMEOUT):
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    assert isinstance(channel, AbstractRobustChannel)  # noqa: S101 - for the type checker
    return channel

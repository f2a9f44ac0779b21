"""Connections to the broker, and why there is none."""

import asyncio
import ssl
from typing import Any

import aio_pika
from aio_pika.abc import (
    AbstractRobustChannel,
    AbstractRobustConnection,
)
from aio_pika.exceptions import (
    ProbableAuthenticationError,
)
from aio_pika.robust_connection import RobustConnection
from yarl import URL

from broadway import __version__
from broadway.rabbit.calls import BROKEN, CALL_TIMEOUT
from broadway.runtime.tls import distrust

HEARTBEAT = 10  # seconds; a frozen peer is noticed after about three
RECONNECT_INTERVAL = 1  # seconds


class BrokerUnreachableError(ConnectionError):
    """No connection to the broker, or it refused the login."""


class UntrustedError(BrokerUnreachableError):
    """Who answers at the broker's address has no certificate that we believe."""


class LoginRefusedError(BrokerUnreachableError):
    """The broker does not know the user, or the password is another one."""


async def connect(url: str, *, name: str, tls: ssl.SSLContext | None) -> AbstractRobustConnection:
    properties: dict[str, Any] = {"connection_name": name, "product": "Broadway", "version": __version__}
    address = URL(url)
    try:
        return await aio_pika.connect_robust(
            str(target(address)), client_properties=properties, timeout=CALL_TIMEOUT, ssl_context=tls
        )
    except BROKEN as error:
        raise unreachable(address, error) from error


def unconnected(url: str, *, name: str, tls: ssl.SSLContext | None) -> RobustConnection:
    """A connection that is yet to be made, and then is tried until it can be."""
    properties: dict[str, Any] = {"connection_name": name, "product": "Broadway", "version": __version__}
    patient = target(URL(url)).update_query(fail_fast=0)
    return RobustConnection(patient, client_properties=properties, ssl_context=tls)


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

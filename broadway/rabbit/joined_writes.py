"""One write for all frames of one turn of the event loop: a system call costs more than most frames."""

import asyncio
import ssl
from typing import Any

from aio_pika.robust_connection import RobustConnection
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from yarl import URL

LARGE = 64 * 1024  # bytes that are written at once, so that ``drain`` waits for a peer that does not read


class JoinedWriter(asyncio.StreamWriter):
    """A stream whose data is written at the end of the present turn of the event loop."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._parts:
            asyncio.get_running_loop().call_soon(self._flush)
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size >= LARGE:
            self._flush()

    def write_eof(self) -> None:
        self._flush()
        super().write_eof()

    def close(self) -> None:
        self._flush()
        super().close()

    def _flush(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self.is_closing():
            super().write(b"".join(parts))


class JoiningTransports(TransportFactory):
    """Opens connections with such streams."""

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a broker.

        Raises:
            AMQPConnectionError: The broker cannot be reached.
        """
        provider = options.pop("ssl_context_provider")
        context: ssl.SSLContext | None = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(
                lambda: protocol, url.host or "", url.port or 0, ssl=context, **options
            )
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        return reader, JoinedWriter(transport, protocol, reader, loop)


class JoiningConnection(RobustConnection):
    """A connection that writes the frames of one turn of the event loop together."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kwargs["transport_factory"] = JoiningTransports()

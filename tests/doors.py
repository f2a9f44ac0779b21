"""A service's HTTP port as its clients see it: bytes on connections from several addresses."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from harness import Client
from scraping import Scrape


@dataclass(frozen=True)
class Door:
    """A service, and its clients, who come from any address of the loopback network."""

    client: Client
    port: int

    @contextlib.asynccontextmanager
    async def connected(self, address: str = "127.0.0.1", *, buffer: int | None = None) -> AsyncIterator["Line"]:
        """Open a connection; the kernel keeps about ``buffer`` bytes of what the server sends, or as it likes."""
        line = socket.socket()
        if buffer is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        line.bind((address, 0))
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=line)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, raw: bytes, address: str = "127.0.0.1") -> str:
        """Send bytes and return the answer, until the server closes the connection."""
        async with self.connected(address) as line:
            await line.send(raw)
            return await line.read()

    async def limited(self, limit: str) -> float:
        """Return how many requests and connections a limit has refused, in this process."""
        return Scrape.of((await self.client.metrics()).text).total("broadway_http_limited_total", limit=limit)

    async def holds(self, place: str, size: int) -> bool:
        """Return whether the service holds bodies of a size, in memory or in the spool."""
        scrape = Scrape.of((await self.client.metrics()).text)
        return scrape.total("broadway_http_body_bytes", place=place) >= size


@dataclass(frozen=True)
class Line:
    """A connection of bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, raw: bytes) -> None:
        """Send bytes, or as many as the server takes before it ends the connection."""
        with contextlib.suppress(OSError):
            self.writer.write(raw)
            await self.writer.drain()

    async def read(self) -> str:
        """Return all that the server sends until it closes."""
        return (await self.reader.read()).decode()

    async def answer(self) -> str:
        """Return the next answer, with its body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith("content-length:"))
        return head + (await self.reader.readexactly(length)).decode()

    async def flood(self, raw: bytes, most: int) -> int:
        """Send bytes again and again until the server ends the connection; return how many it let pass, or ``most``."""
        sent = 0
        with contextlib.suppress(OSError):
            while sent < most:
                self.writer.write(raw)
                await self.writer.drain()
                sent += len(raw)
        return sent


Doors = Callable[..., contextlib.AbstractAsyncContextManager[Door]]

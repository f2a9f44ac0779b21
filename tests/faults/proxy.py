"""Proxies between a client and a server: a load balancer, and links that can be broken.

The balancer forwards each connection to a node that accepts it. A link leads to one server; it can be cut, blocked,
slowed down and half-closed. A way is a socket in the file system, which cuts its connections when it ends.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends only a reset


@dataclass
class Link:
    """A link to one server. Each fault returns the number of connections that it struck."""

    host: str
    server_port: int
    port: int = 0
    _pause: float = 0  # seconds before each chunk is forwarded
    _open: set[asyncio.StreamWriter] = field(default_factory=set)  # connections to clients
    _ended: set[asyncio.StreamWriter] = field(
        default_factory=set
    )  # the half-closed ones: nothing more is sent to these clients
    _is_clear: asyncio.Event = field(default_factory=asyncio.Event)
    _has_held: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, host: str, server_port: int, *, port: int = 0, at: str = "127.0.0.1") -> AsyncIterator[Self]:
        """Open a link on a port of an address, on a free one unless it is given."""
        link = cls(host, server_port)
        link._is_clear.set()
        async with await asyncio.start_server(link._serve, at, port) as server:
            link.port = server.sockets[0].getsockname()[1]
            yield link
            server.close()
            link.cut()

    def cut(self) -> int:
        """Reset every connection. New connections are accepted."""
        struck = len(self._open)
        for writer in self._open:
            if end := writer.get_extra_info("socket"):  # it may be closing already
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        return struck

    @contextlib.contextmanager
    def held(self) -> Iterator[asyncio.Event]:
        """Hold back all data in both directions; yield an event that is set as soon as there are some."""
        self._has_held.clear()
        self._is_clear.clear()
        try:
            yield self._has_held
        finally:
            self._is_clear.set()

    async def blackhole(self, seconds: float) -> int:
        """Hold back all data in both directions for a time, without an error on either side."""
        struck = len(self._open)
        self._is_clear.clear()
        await asyncio.sleep(seconds)
        self._is_clear.set()
        return struck

    async def slow_down(self, seconds: float, pause: float) -> int:
        """Delay every chunk by ``pause`` seconds, for a time."""
        struck = len(self._open)
        self._pause = pause
        await asyncio.sleep(seconds)
        self._pause = 0
        return struck

    def half_close(self) -> int:
        """Close the direction to the clients. Data from the clients still arrives."""
        halved = self._open - self._ended
        for writer in halved:
            self._ended.add(writer)
            writer.write_eof()
        return len(halved)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._is_clear.wait()
            upstream_reader, upstream_writer = await asyncio.open_connection(self.host, self.server_port)
            await _both(
                self._pipe(reader, upstream_writer),
                self._pipe(upstream_reader, writer),
                ends=(writer, upstream_writer),
            )
        except OSError:
            writer.close()
        finally:
            self._open.discard(writer)
            self._ended.discard(writer)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                if not self._is_clear.is_set():
                    self._has_held.set()
                await self._is_clear.wait()
                await asyncio.sleep(self._pause)
                if writer not in self._ended:
                    writer.write(chunk)
                    await writer.drain()


@contextlib.asynccontextmanager
async def balancer(targets: Sequence[tuple[str, int]]) -> AsyncIterator[int]:
    """Yield a port of 127.0.0.1 whose connections go, in turn, to the targets that accept them."""
    turn = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        turn += 1
        for host, port in [*targets[turn % len(targets) :], *targets[: turn % len(targets)]]:
            with contextlib.suppress(OSError):
                upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
                ways = _pipe(reader, upstream_writer), _pipe(upstream_reader, writer)
                await _both(*ways, ends=(writer, upstream_writer))
                return
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        server.close()


@contextlib.asynccontextmanager
async def way(target: Path, path: Path) -> AsyncIterator[None]:
    """Serve a socket at ``path`` that leads to ``target``, and cut its open connections when the context ends."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(target)
        try:
            await _both(_pipe(reader, upstream_writer), _pipe(upstream_reader, writer), ends=(writer, upstream_writer))
        except asyncio.CancelledError:
            for end in (writer, upstream_writer):
                end.transport.abort()
        finally:
            connections.discard(task)

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
        cut = list(connections)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        await server.wait_closed()
        path.unlink(missing_ok=True)


async def _both(*ways: Coroutine[Any, Any, None], ends: Sequence[asyncio.StreamWriter]) -> None:
    """Run both directions until either ends, then end the other."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            end.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()

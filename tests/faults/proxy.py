"""Ways to services that tests can cut, and a load balancer in front of a cluster, as operators have one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path


@contextlib.asynccontextmanager
async def balancer(targets: Sequence[tuple[str, int]]) -> AsyncIterator[int]:
    """Yield the port of 127.0.0.1 at which every connection goes to one of the targets that takes it."""
    turn = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        turn += 1
        for host, port in [*targets[turn % len(targets) :], *targets[: turn % len(targets)]]:
            with contextlib.suppress(OSError):
                upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
                await _pipe_both(reader, writer, upstream_reader, upstream_writer)
                return
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        server.close()


@contextlib.asynccontextmanager
async def way(target: Path, path: Path) -> AsyncIterator[None]:
    """A socket at ``path`` that leads to another one for as long as the context lasts; what is open then is cut."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(target)
        try:
            await _pipe_both(reader, writer, upstream_reader, upstream_writer)
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


async def _pipe_both(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    upstream_reader: asyncio.StreamReader,
    upstream_writer: asyncio.StreamWriter,
) -> None:
    """Until either side ends; then both do."""
    ways = [
        asyncio.create_task(_pipe(reader, upstream_writer)),
        asyncio.create_task(_pipe(upstream_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (writer, upstream_writer):
            end.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()

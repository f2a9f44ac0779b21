"""The bytes that leave a connection to the broker: all of one turn of the event loop in one write."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
import uvloop

from broadway.rabbit.joined_writes import LARGE, JoinedWriter

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def peers() -> Iterator[tuple[socket.socket, socket.socket]]:
    own, other = socket.socketpair()
    with contextlib.closing(own), contextlib.closing(other):
        own.setblocking(False)
        other.setblocking(False)
        yield own, other


async def opened(own: socket.socket) -> JoinedWriter:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(lambda: protocol, sock=own)
    return JoinedWriter(transport, protocol, reader, loop)


def received(other: socket.socket) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return other.recv(2 * LARGE)
    return b""


@pytest.mark.parametrize("kind", LOOPS)
def test_frames_of_one_turn_are_one_write(kind: str, peers: tuple[socket.socket, socket.socket]) -> None:
    own, other = peers

    async def write() -> list[bytes]:
        writer = await opened(own)
        writer.write(b"one")
        await writer.drain()
        writer.write(b"two")
        early = received(other)
        await asyncio.sleep(0)
        joined = received(other)
        writer.write(b"three")
        writer.close()
        await writer.wait_closed()
        return [early, joined, received(other)]

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        assert runner.run(write()) == [b"", b"onetwo", b"three"]


def test_large_data_is_written_at_once(peers: tuple[socket.socket, socket.socket]) -> None:
    own, other = peers

    async def write() -> bytes:
        writer = await opened(own)
        writer.write(b"x" * LARGE)
        early = received(other)
        writer.close()
        return early

    assert asyncio.run(write())

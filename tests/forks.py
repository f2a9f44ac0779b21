"""Python programs, forked from a process that has already imported Broadway: see programs/fork_server.py."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Protocol

TESTS = Path(__file__).parent
PATH = os.pathsep.join((str(TESTS), str(TESTS.parent)))


class Process(Protocol):
    """A child process, forked or not."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    def send_signal(self, signal: int, /) -> None: ...


@dataclass(frozen=True)
class Forked:
    """A program that the fork server has started."""

    pid: int
    end: asyncio.Task[int]

    @property
    def returncode(self) -> int | None:
        return self.end.result() if self.end.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self.end)

    def send_signal(self, number: int) -> None:
        if self.end.done():
            raise ProcessLookupError
        with contextlib.suppress(ProcessLookupError):  # it has just ended, and the server will report that
            os.kill(self.pid, number)


@dataclass(frozen=True)
class ForkServer:
    control: socket.socket

    async def start(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        stdout: IO[bytes],
        stderr: IO[bytes],
        stdin: str = os.devnull,
    ) -> Forked:
        """Start a program: a file, or ``-m`` and a module, with its arguments; ``stdin`` is the path of its input."""
        request = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "directory": str(directory),
            "stdin": stdin,
        }
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = [stdout.fileno(), stderr.fileno(), theirs.fileno()]
            socket.send_fds(self.control, [json.dumps(request).encode()], descriptors)
        started = asyncio.create_task(_started(ours))
        try:
            return await asyncio.shield(started)
        except asyncio.CancelledError:  # as asyncio does with a process of its own: nothing runs unattended
            forked = await started
            forked.send_signal(signal.SIGKILL)
            await forked.wait()
            raise


async def _started(reply: socket.socket) -> Forked:
    reader, writer = await asyncio.open_unix_connection(sock=reply)
    return Forked(await _number(reader), asyncio.create_task(_end(reader, writer)))


async def _number(reader: asyncio.StreamReader) -> int:
    line = await reader.readline()
    assert line, "the fork server has died"
    return int(line)


async def _end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    try:
        return await _number(reader)
    finally:
        writer.close()


@contextlib.contextmanager
def running() -> Iterator[ForkServer]:
    """Run a fork server, which needs a moment to warm up; its programs end with the context."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, str(TESTS / "programs" / "fork_server.py"), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": PATH},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            yield ForkServer(ours)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


_open = contextlib.ExitStack()


@cache
def fork_server() -> ForkServer:
    """Return the session's fork server; the first call starts it."""
    return _open.enter_context(running())


def close() -> None:
    """End the session's fork server, if there is one."""
    _open.close()

"""Child processes that live no longer than their parent."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

POLL = 0.05  # seconds between two looks
AFTER_KILL = 30  # seconds that the end of a killed process is waited for
TAIL = 15  # lines of a log that an error shows
FIRST_PORT = 10_000  # of those that are looked at for a free one


class LocalError(RuntimeError):
    """What keeps something local from running: a sentence for the operator."""


class MissingError(LocalError):
    """Something is not installed; the message says what to install."""


class ChildError(LocalError):
    """A child ended early or never got ready; the message names its log and shows the end of it."""


@dataclass(frozen=True)
class Child:
    """A running child process; what it prints is appended to `log`."""

    name: str
    log: Path
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ended(self) -> ChildError:
        """Return, once the child has ended, the error that says so."""
        return self.failure(f"ended with status {await self.process.wait()}")

    async def until(self, answers: Callable[[], Awaitable[bool]], *, within: float) -> None:
        """Return once `answers()` is true; raise ChildError if the child ends first or after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._poll(answers)
        except TimeoutError:
            raise self.failure(f"was not ready within {within:g} s") from None

    async def _poll(self, answers: Callable[[], Awaitable[bool]]) -> None:
        while not await answers():
            if self.process.returncode is not None:
                raise await self.ended()
            await asyncio.sleep(POLL)

    def failure(self, what: str) -> ChildError:
        return ChildError(f"{self.name} {what}; the end of its log {self.log}:\n{tail(self.log)}")


@asynccontextmanager
async def child(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    grace: float = 10,
) -> AsyncIterator[Child]:
    """Run `command` in its own session for as long as the context lasts.

    At the end it gets SIGTERM and `grace` seconds; then its whole process group gets SIGKILL.
    It gets SIGTERM as well when this process dies without coming to that.
    """
    process = await _spawn(command, log, env)
    try:
        yield Child(name, log, process)
    finally:
        await _stop(process, grace)


async def _spawn(command: Sequence[str], log: Path, env: Mapping[str, str] | None) -> asyncio.subprocess.Process:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "TERM", "--", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
        )


async def _stop(process: asyncio.subprocess.Process, grace: float) -> None:
    try:
        with suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        pass
    finally:  # also when a second cancellation cuts the grace short
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):  # nobody can do more
        async with asyncio.timeout(AFTER_KILL):
            await process.wait()


async def output(*command: str) -> str:
    """Return what `command` prints; raise LocalError with its complaint when it fails."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    printed, complaint = await process.communicate()
    if process.returncode:
        raise LocalError(f"{' '.join(command)}: {complaint.decode(errors='replace').strip()}")
    return printed.decode()


def tail(log: Path, lines: int = TAIL) -> str:
    with suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return "(there is none)"


def absolute(path: Path) -> Path:
    return path.resolve()


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports that nobody listens on at 127.0.0.1 now.

    The system gives none of them to a connection, as it might otherwise before somebody listens there, or while a
    server that is to come back is away.
    """
    candidates = range(FIRST_PORT, max(_first_port_of_connections(), FIRST_PORT + 10_000))
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port = SystemRandom().choice(candidates)
            with suppress(OSError):  # somebody listens there, or we do
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
        return found


def _first_port_of_connections() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


async def accepts(port: int) -> bool:
    """Tell whether somebody takes TCP connections on `port` of 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True

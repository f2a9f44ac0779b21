"""Child processes that do not outlive their parent."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

POLL = 0.05  # seconds between two checks
AFTER_KILL = 30  # seconds to wait for the end of a killed process
TAIL = 15  # lines of a log that an error shows
FIRST_PORT = 10_000  # the lowest port to try


class LocalError(RuntimeError):
    """A local service cannot run; the message is a sentence for the operator."""


class MissingError(LocalError):
    """A package or a right is missing; the message names it."""


class ChildError(LocalError):
    """A child ended early or was not ready in time; the message has the path and the end of its log."""


@dataclass(frozen=True)
class Child:
    """A running child process; its output is appended to `log`."""

    name: str
    log: Path
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ended(self) -> ChildError:
        """Wait for the end of the child, and return the error that reports it."""
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

    def failure(self, event: str) -> ChildError:
        return ChildError(f"{self.name} {event}; the end of its log {self.log}:\n{tail(self.log)}")


@asynccontextmanager
async def child(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    grace: float = 10,
) -> AsyncIterator[Child]:
    """Run `command` in a session of its own for as long as the context lasts.

    At the end the child gets SIGTERM and `grace` seconds; then its whole process group gets SIGKILL. The child also
    gets SIGTERM if this process dies before that.
    """
    process = await _spawn(command, log, env)
    try:
        yield Child(name, log, process)
    finally:
        await _stop(process, grace)


async def _spawn(command: Sequence[str], log: Path, env: Mapping[str, str] | None) -> asyncio.subprocess.Process:
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as output:
        os.fchmod(output.fileno(), 0o600)  # logs may name students
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
    with suppress(TimeoutError):  # nothing more can be done
        async with asyncio.timeout(AFTER_KILL):
            await process.wait()


async def output(*command: str) -> str:
    """Return the output of `command`; raise LocalError with its error messages if it fails."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    stdout, stderr = await process.communicate()
    if process.returncode:
        raise LocalError(f"{' '.join(command)}: {stderr.decode(errors='replace').strip()}")
    return stdout.decode()


def tail(log: Path, lines: int = TAIL) -> str:
    with suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return "(there is no log)"


def absolute(path: Path) -> Path:
    return path.resolve()


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports on which no process listens at 127.0.0.1 now.

    They are outside the range from which the system takes ports for connections. It could otherwise take one before
    its server listens, or while the server restarts.
    """
    candidates = range(FIRST_PORT, max(_first_port_of_connections(), FIRST_PORT + 10_000))
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port = SystemRandom().choice(candidates)
            with suppress(OSError):  # the port is in use
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
        return found


def _first_port_of_connections() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


async def accepts(port: int) -> bool:
    """Return whether a server accepts TCP connections on `port` of 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True

"""Services and graders as child processes that tests can kill."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from forks import PATH, TESTS, Process, fork_server

CLUSTER_TOKEN = "cluster-token"
OPERATOR_TOKEN = "operator-token"

QUICK = ("--heartbeat-interval", "1")
QUICK_DISPATCHER = (*QUICK, "--reconcile-interval", "0.5", "--leader-ttl", "1.5", "--retry-backoff", "0.05")


@dataclass
class Processes:
    """Child processes by name; those that still run at the end are killed. Their output is shown when a test fails.

    Python programs are forked from a warm process, unless ``is_warm`` is false, for tests of a program's start.
    """

    directory: Path
    environment: Mapping[str, str]
    is_warm: bool = True
    running: dict[str, Process] = field(default_factory=dict)

    async def start(self, name: str, *command: str, without: str = "", **more: str) -> None:
        """Start a command; ``more`` are variables of its own, and ``without`` names one that it does not get."""
        given = {**os.environ, **self.environment, "PYTHONPATH": PATH, **more}
        environment = {name: value for name, value in given.items() if name != without}
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = await launch(
                command, environment=environment, directory=self.directory, log=log, is_warm=self.is_warm
            )

    async def launch(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start an installed program with an environment of its own."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = await launch(
                command, environment=environment, directory=self.directory, log=log, is_warm=False
            )

    async def service(self, name: str, *flags: str) -> None:
        await self.start(name, sys.executable, "-m", f"broadway.{name}", *flags)

    async def grader(self, name: str, *, slots: int = 2) -> None:
        program = str(TESTS / "programs" / "fake_grader.py")
        work_dir = str(self.directory / "work")
        url = self.environment["BROADWAY_AMQP_URL"]
        await self.start(name, sys.executable, program, url, name, str(slots), work_dir)

    async def attached_grader(self, name: str, address: str, *, slots: int = 1, token: str = CLUSTER_TOKEN) -> None:
        """Start a grader that has only the API's address."""
        program, work_dir = str(TESTS / "programs" / "fake_grader.py"), str(self.directory / "work" / name)
        await self.start(name, sys.executable, program, address, name, str(slots), work_dir, token)

    async def kill(self, name: str) -> None:
        """Send SIGKILL and wait for the end."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def terminate(self, name: str) -> int:
        """Send SIGTERM and return the exit code."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        return await process.wait()

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def show(self) -> None:
        """Print the ends of all logs."""
        for log in sorted(self.directory.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-4000:]}")


async def launch(
    command: Sequence[str], *, environment: Mapping[str, str], directory: Path, log: IO[bytes], is_warm: bool = True
) -> Process:
    """Start a command that dies with this process; a Python program is forked from a warm process if ``is_warm``."""
    program, *arguments = command
    if is_warm and program == sys.executable:
        return await fork_server().start(
            arguments, environment=environment, directory=directory, stdout=log, stderr=log
        )
    return await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--", *command), env=environment, stdout=log, stderr=log, cwd=directory
    )


@contextlib.asynccontextmanager
async def processes(
    directory: Path, environment: Mapping[str, str], *, is_warm: bool = True
) -> AsyncIterator[Processes]:
    directory.mkdir(parents=True, exist_ok=True)
    started = Processes(directory, environment, is_warm)
    try:
        yield started
    finally:
        for name in list(started.running):
            if started.running[name].returncode is None:
                await started.kill(name)
        started.show()

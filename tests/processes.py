"""Services and graders as processes of their own, to be killed."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent
CLUSTER_TOKEN = "cluster-token"

QUICK = ("--heartbeat-interval", "1")
QUICK_DISPATCHER = (*QUICK, "--reconcile-interval", "0.5", "--leader-ttl", "1.5", "--retry-backoff", "0.05")


@dataclass
class Processes:
    """Child processes by name; whatever still runs at the end is killed. Their output is shown when a test fails."""

    directory: Path
    environment: Mapping[str, str]
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, name: str, *command: str, without: str = "") -> None:
        """Start a command; ``without`` names a variable that it does not get."""
        path = os.pathsep.join((str(TESTS), str(TESTS.parent)))
        environment = {**os.environ, **self.environment, "PYTHONPATH": path}
        log = (self.directory / f"{name}.log").open("ab")
        with log:
            self.running[name] = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", "--", *command),
                env={k: v for k, v in environment.items() if k != without},
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    async def service(self, name: str, *flags: str) -> None:
        await self.start(name, sys.executable, "-m", f"broadway.{name}", *flags)

    async def grader(self, name: str, *, slots: int = 2) -> None:
        program = str(TESTS / "programs" / "fake_grader.py")
        work_dir = str(self.directory / "work")
        url = self.environment["BROADWAY_AMQP_URL"]
        await self.start(name, sys.executable, program, url, name, str(slots), work_dir)

    async def attached_grader(self, name: str, address: str, *, slots: int = 1, token: str = CLUSTER_TOKEN) -> None:
        """A grader that finds its way from the API's address."""
        program, work_dir = str(TESTS / "programs" / "fake_grader.py"), str(self.directory / "work" / name)
        await self.start(name, sys.executable, program, address, name, str(slots), work_dir, token)

    async def kill(self, name: str) -> None:
        """SIGKILL, and gone."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def terminate(self, name: str) -> int:
        """SIGTERM; the exit code."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        return await process.wait()

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()


@contextlib.asynccontextmanager
async def processes(directory: Path, environment: Mapping[str, str]) -> AsyncIterator[Processes]:
    directory.mkdir(parents=True, exist_ok=True)
    started = Processes(directory, environment)
    try:
        yield started
    finally:
        for name in list(started.running):
            if started.running[name].returncode is None:
                await started.kill(name)
        for log in sorted(directory.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-4000:]}")

"""Other task systems on the same broker and store: their workers, and programs that submit tasks on request."""

import asyncio
import contextlib
import os
import socket
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from benchmarks.machine import cpu_seconds
from benchmarks.site import Ground
from broadway.local.processes import Child, child

PYTHON = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
PROGRAMS = Path(__file__).parent / "peers"
TIMEOUT = 120  # seconds for one measurement
POLL = 0.01  # seconds between two polls of the number of results
RESULTS = "celery_taskmeta"  # Celery's name for their collection


class AbsentError(RuntimeError):
    """The rivals are not installed."""


@dataclass(frozen=True, slots=True)
class System:
    """A task system: the arguments of its worker, and its submitter in ``benchmarks/peers``."""

    name: str
    worker: Sequence[str]
    submitter: str
    keeps_results: bool = False


CELERY = ("-m", "celery", "--quiet", "-A", "celery_tasks", "worker", "--pool", "prefork", "--loglevel", "ERROR")
TASKIQ = ("-m", "taskiq", "worker", "taskiq_tasks:broker", "--workers", "1", "--log-level", "ERROR")


def systems(slots: int) -> list[System]:
    """Return the rivals, each with so many tasks at a time."""
    celery = (*CELERY, "--concurrency", str(slots), "--without-gossip", "--without-mingle")
    return [
        System("Celery, MongoDB results", (*celery, "-n", "results@here"), "celery_submit.py", keeps_results=True),
        System("Celery, no results", (*celery, "-n", "plain@here"), "celery_submit.py"),
        System("taskiq, no results", TASKIQ, "taskiq_submit.py"),
    ]


@dataclass(slots=True)
class Starts:
    """A receiver of the start times of tasks, over a Unix socket."""

    _received: list[float] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, path: Path) -> AsyncIterator[Self]:
        """Listen at a path."""
        starts, loop = cls(), asyncio.get_running_loop()
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
            listener.setblocking(False)
            listener.bind(str(path))
            loop.add_reader(listener, starts._receive, listener)
            try:
                yield starts
            finally:
                loop.remove_reader(listener)
                path.unlink()  # the next system of this name listens at the same path

    def _receive(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._received.append(float(listener.recv(64)))
                self._more.set()

    async def take(self, number: int) -> list[float]:
        """Wait for so many starts; remove and return their times."""
        while len(self._received) < number:
            self._more.clear()
            await self._more.wait()
        taken, self._received = self._received[:number], self._received[number:]
        return taken


@dataclass(frozen=True, slots=True)
class Rival:
    """A running task system."""

    system: System
    ground: Ground
    worker: Child
    submitter: Process
    starts: Starts
    results: AsyncCollection[dict[str, Any]]

    async def run(self, number: int) -> float:
        """Submit so many tasks; return the seconds until all are executed, with their results stored if kept."""
        await self.results.drop()
        begun = await self._submit(number)
        async with asyncio.timeout(TIMEOUT):
            started = await self.starts.take(number)
            while self.system.keeps_results and await self.results.estimated_document_count() < number:  # noqa: ASYNC110
                await asyncio.sleep(POLL)
        return (time.time() if self.system.keeps_results else max(started)) - begun

    async def latency(self) -> float:
        """Submit one task, and return the seconds until its start."""
        begun = await self._submit(1)
        async with asyncio.timeout(TIMEOUT):
            (started,) = await self.starts.take(1)
        return started - begun

    def cpu(self) -> dict[str, float]:
        """Return the processor seconds so far, by role."""
        pids = {"worker": self.worker.pid, "submitter": self.submitter.pid, **self.ground.processes}
        return {role: cpu_seconds(pid) for role, pid in pids.items()}

    async def _submit(self, number: int) -> float:
        assert self.submitter.stdin and self.submitter.stdout  # noqa: S101, PT018 - they are pipes
        self.submitter.stdin.write(f"{number}\n".encode())
        return float(await self.submitter.stdout.readline())


@contextlib.asynccontextmanager
async def rival(system: System, ground: Ground) -> AsyncIterator[Rival]:
    """Start a system's worker and submitter, and yield once it has executed a task.

    Raises:
        AbsentError: The system is not installed.
    """
    if not PYTHON.exists():
        raise AbsentError("not installed: run `make bench`")
    name = "".join(filter(str.isalpha, system.name))
    listener = ground.directory / f"{name}.socket"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROGRAMS),
        "BENCH_AMQP_URL": ground.node.amqp_url,
        "BENCH_QUEUE": name,
        "BENCH_LISTENER": str(listener),
    }
    if system.keeps_results:
        environment["BENCH_RESULTS"] = ground.store.dsn.replace("/?", f"/{name}?")
    async with (
        Starts.at(listener) as starts,
        AsyncMongoClient[dict[str, Any]](ground.store.dsn) as mongodb,
        child(
            system.name, (str(PYTHON), *system.worker), log=ground.directory / f"{name}.log", env=environment
        ) as worker,
        _submitter(system, environment) as submitter,
    ):
        running = Rival(system, ground, worker, submitter, starts, mongodb[name][RESULTS])
        await running.latency()
        yield running


@contextlib.asynccontextmanager
async def _submitter(system: System, environment: dict[str, str]) -> AsyncIterator[Process]:
    program = str(PROGRAMS / system.submitter)
    process = await asyncio.create_subprocess_exec(
        str(PYTHON), program, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

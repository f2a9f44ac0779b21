"""A separate broker and store, and Broadway's services on them, each as a process of its own."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import aio_pika
import httpx2
from aio_pika.abc import AbstractIncomingMessage
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from benchmarks.machine import cpu_seconds, resident
from broadway.domain.settlement import key_of
from broadway.local.broker import Broker, broker
from broadway.local.processes import Child, child, free_ports
from broadway.local.store import Store, store
from broadway.messages.envelope import decode
from broadway.messages.events import RunAdvanced
from broadway.messages.topology import EVENTS

COURSE, TOKEN = "bench", "bench-token"
NOTHING = [{"image": "none", "entrypoint": ["true"]}]  # a pipeline
LOGIN = {"Authorization": f"Bearer {TOKEN}"}
RUN_TIMEOUT = 900  # seconds for one run at most
START = 60  # seconds for a service to start
AT_A_TIME = 50  # outcomes in a question
_REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Ground:
    """The broker and the store of the services."""

    directory: Path
    node: Broker
    store: Store

    @property
    def environment(self) -> dict[str, str]:
        """The environment of Broadway's processes, with the addresses."""
        return {
            **os.environ,
            "BROADWAY_AMQP_URL": self.node.amqp_url,
            "BROADWAY_MONGODB_DSN": self.store.dsn,
            "BROADWAY_LOG_DIR": "",
            "BROADWAY_LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(_REPOSITORY),
        }

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by role."""
        return {"broker": self.node.pid, "store": self.store.pid}


@contextlib.asynccontextmanager
async def ground(directory: Path) -> AsyncIterator[Ground]:
    """Start a broker and a store, and stop them at the end."""
    async with broker(directory / "broker") as node, store(directory / "store") as documents:
        yield Ground(directory, node, documents)


@dataclass(slots=True)
class Site:
    """Broadway's control plane, and graders."""

    ground: Ground
    http: httpx2.AsyncClient
    database: AsyncDatabase[dict[str, Any]]
    stack: AsyncExitStack
    children: dict[str, Child] = field(default_factory=dict)
    ends: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, ground: Ground, *, concurrency: int | None = None, flags: Sequence[str] = ()
    ) -> AsyncIterator[Self]:
        """Start ingest (with ``flags``), dispatcher and results with one course, and yield once they are ready."""
        (port,) = free_ports(1)
        courses = ground.directory / "courses.json"
        courses.write_text(json.dumps({COURSE: {"tokens": [TOKEN], "concurrency": concurrency}}))
        async with (
            AsyncExitStack() as stack,
            AsyncMongoClient[dict[str, Any]](ground.store.dsn) as mongodb,
            httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                headers=LOGIN,
                timeout=120,
                limits=httpx2.Limits(max_connections=None),
            ) as http,
        ):
            site = cls(ground, http, mongodb["AG"], stack)
            where = ("--bind-addr", "127.0.0.1", "--bind-port", str(port), "--course-config", str(courses))
            ingest = await site._service("ingest", *where, *flags)
            await ingest.until(partial(_is_ready, http), within=START)
            await site._service("results")
            await site._service("dispatcher")
            await stack.enter_async_context(site._following())
            yield site

    @contextlib.asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        """Receive the ends of runs from the broker: polling the store would add load."""
        async with await aio_pika.connect(self.ground.node.amqp_url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(EVENTS.name, "run.#")
            await queue.consume(self._receive, no_ack=True)
            yield

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        event = decode(message.headers, message.body)
        if isinstance(event, RunAdvanced) and event.state.is_terminal:
            self.ends[event.run_id].set()

    async def _service(self, name: str, *flags: str) -> Child:
        """Start a service of the control plane."""
        command = (sys.executable, "-m", f"broadway.{name}", *flags)
        return await self.stack.enter_async_context(self._process(name, command, {}))

    @contextlib.asynccontextmanager
    async def noop_graders(
        self, name: str, *, slots: int, number: int = 1, within: float = START
    ) -> AsyncIterator[Child]:
        """Run so many no-op graders in one process, and yield once they are registered in the store."""
        program = (sys.executable, "-m", "benchmarks.programs.noop_graders")
        work = str(self.ground.directory / "work")
        command = (*program, self.ground.node.amqp_url, name, str(number), str(slots), work)
        async with self._process(name, command, {}) as running:
            await self._until_registered(running, [f"{name}-{each}" for each in range(number)], within)
            yield running

    @contextlib.asynccontextmanager
    async def grader(
        self, name: str, *, runtime: str, slots: int, docker_host: str, flags: Sequence[str] = ()
    ) -> AsyncIterator[Child]:
        """Run a grader with a real runtime, and yield once it is registered in the store."""
        work = str(self.ground.directory / "work")
        addresses = ("--amqp-url", self.ground.node.amqp_url, "--api-host", "http://127.0.0.1:9")  # no API to join
        own = (*addresses, "--slots", str(slots), "--work-dir", work, "--runtime", runtime)
        command = (sys.executable, "-m", "broadway.grader", *own, *flags, "no-token", name)
        async with self._process(name, command, {"DOCKER_HOST": docker_host}) as running:
            await self._until_registered(running, [name])
            yield running

    async def _until_registered(self, running: Child, names: Sequence[str], within: float = START) -> None:
        workers = self.database["worker_node"]

        async def are_registered() -> bool:
            return await workers.count_documents({"_id": {"$in": names}, "alive": True}) == len(names)

        await running.until(are_registered, within=within)

    @contextlib.asynccontextmanager
    async def _process(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Child]:
        log = self.ground.directory / f"{name}.log"
        async with child(name, command, log=log, env={**self.ground.environment, **environment}) as running:
            self.children[name] = running
            try:
                yield running
            finally:
                del self.children[name]

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by role."""
        return {**self.ground.processes, **{name: each.pid for name, each in self.children.items()}}

    async def register(
        self, assignment: str, pipeline: Sequence[Mapping[str, Any]], env: Mapping[str, str] = {}
    ) -> None:
        """Register an assignment whose students' jobs have these stages."""
        config = {"student_pipeline": pipeline, "env": env} if env else {"student_pipeline": pipeline}
        answer = await self.http.post(f"/api/v1/grading_config/{COURSE}/{assignment}", json=config)
        answer.raise_for_status()

    async def submit(self, assignment: str, students: int | Sequence[Mapping[str, str]]) -> "Submitted":
        """Submit a run for so many students, or for a roster, and return once it is answered."""
        body = {"students_env": roster_of(students) if isinstance(students, int) else students}
        sent_at, begun = datetime.now(UTC), time.perf_counter()
        answer = await self.http.post(f"/api/v1/grading_run/{COURSE}/{assignment}", json=body)
        answer.raise_for_status()
        seconds = time.perf_counter() - begun
        return Submitted(answer.json()["data"]["grading_run_id"], sent_at, begun, seconds)

    async def run(self, assignment: str, students: int) -> float:
        """Run an assignment; return the seconds from submission to the run's end, when every outcome is stored."""
        submitted = await self.submit(assignment, students)
        await self.ended(submitted)
        return time.perf_counter() - submitted.begun

    async def ended(self, submitted: "Submitted") -> None:
        """Wait until a run is over.

        Raises:
            RuntimeError: A job of the run has not succeeded.
        """
        await self.over(submitted)
        jobs, failed = self.database["grading_job"], {"grading_run_id": submitted.run_id, "success": False}
        if one := await jobs.find_one(failed, {"outcome": 1, "reason": 1}):
            raise RuntimeError(f"a job has not succeeded: {one.get('outcome')}, {one.get('reason')}")

    async def over(self, submitted: "Submitted") -> None:
        """Wait until a run is over, with any outcomes."""
        async with asyncio.timeout(RUN_TIMEOUT):
            await self.ends[submitted.run_id].wait()

    async def started_at(self, submitted: "Submitted") -> datetime:
        """Return the time at which a grader took the first job of a run that is over."""
        return min(await self.starts(submitted))

    async def starts(self, submitted: "Submitted") -> list[datetime]:
        """Return the times at which graders took the jobs of a run that is over, in no order.

        They are stored with the outcomes: the start of a short job is known from its outcome only.
        """
        jobs = await self.database["grading_job"].find({"grading_run_id": submitted.run_id}, {"_id": 1}).to_list()
        keys = [key_of(str(each["_id"]), 1) for each in jobs]
        found: list[dict[str, Any]] = []
        for start in range(0, len(keys), AT_A_TIME):
            query = {"_id": {"$in": keys[start : start + AT_A_TIME]}}
            found += await self.database["job_outcome"].find(query, {"started_at": 1}).to_list()
        return [each["started_at"].replace(tzinfo=UTC) for each in found]

    def cpu(self) -> dict[str, float]:
        """Return the processor seconds so far, by role."""
        return {name: cpu_seconds(pid) for name, pid in self.processes.items()}

    def memory(self) -> dict[str, float]:
        """Return the memory in MiB, by role."""
        return {name: resident(pid) for name, pid in self.processes.items()}


@dataclass(frozen=True, slots=True)
class Submitted:
    """A run whose submission was answered ``seconds`` after ``sent_at``."""

    run_id: str
    sent_at: datetime
    begun: float
    seconds: float


def roster_of(students: int) -> list[dict[str, str]]:
    """Return the environments of so many students."""
    return [{"STUDENT_ID": f"s{number}"} for number in range(students)]


async def _is_ready(http: httpx2.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).is_success
    except httpx2.TransportError:
        return False

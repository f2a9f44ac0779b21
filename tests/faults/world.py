"""A whole deployment of processes that restart when they die."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
from fake_containers import expected
from faults.checker import Entry, Final, check, joined, read
from faults.proxy import Link, balancer
from faults.servers import Rabbit, Server, Servers, private
from forks import PATH, TESTS, Process
from harness import Client, free_port, token_of, until
from processes import launch
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from spools import spooled
from yarl import URL

from broadway.local.store import Store
from broadway.runtime import crashpoints, fault_history

COURSES = [f"cs{number}" for number in (101, 225, 241, 374, 421)]
COMPLETE, FAILED = "grading run is complete", "grading run failed"
CLUSTER_TOKEN = "cluster-token"
RESTART_PAUSE = 0.2  # seconds
QUICK = ("--heartbeat-interval", "1", "--mongodb-timeout", "2")
FLAGS = {
    "results": QUICK,
    "dispatcher": (*QUICK, "--reconcile-interval", "0.5", "--leader-ttl", "1.5", "--retry-backoff", "0.05"),
    "ingest": QUICK,
    "notifier": (*QUICK, "--callback-lease", "1", "--callback-poll", "0.1"),
}


@dataclass
class Role:
    """A process that is restarted whenever it ends."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    process: Process | None = None
    starts: int = 0
    is_warm: bool = True
    is_wanted: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        while True:
            await self.is_wanted.wait()
            with self.log.open("ab") as log:
                environment = {**os.environ, **self.environment}
                self.process = await launch(
                    self.command,
                    environment=environment,
                    directory=self.log.parent,
                    log=log,
                    is_warm=self.is_warm,
                )
            self.starts += 1
            try:
                await self.process.wait()
            except asyncio.CancelledError:
                self.send(signal.SIGKILL)
                await self.process.wait()
                raise
            await asyncio.sleep(RESTART_PAUSE)

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; return False if no process runs."""
        if self.process and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
                return True
        return False

    async def freeze(self, seconds: float) -> bool:
        is_frozen = self.send(signal.SIGSTOP)
        if is_frozen:
            await asyncio.sleep(seconds)
            self.send(signal.SIGCONT)
        return is_frozen


@dataclass
class World:
    """Services, graders with a fake runtime, and their history."""

    directory: Path
    servers: Servers
    database: AsyncDatabase[dict[str, Any]]
    client: Client
    roles: dict[str, Role]
    links: Mapping[tuple[str, str], Link]
    executed: Collection[str] = ()  # before all processes started
    stored: dict[tuple[str, int], tuple[str, str | None]] = field(default_factory=dict)  # in the checker's format

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        directory: Path,
        *,
        dispatchers: int = 1,
        results: int = 1,
        notifiers: int = 0,
        ingests: int = 1,
        graders: int = 2,
        slots: int = 4,
        more: Sequence[str] = (),
        health_files: bool = False,
        docker_host: str | None = None,
        flags: Mapping[str, Sequence[str]] = {},
        crashes: bool = False,
        joining: bool = False,
        linked: Collection[tuple[str, str]] = (),
        prepare: Callable[[Role], None] = lambda _: None,
        fill: Callable[[], Awaitable[None]] | None = None,
        shared: Servers | None = None,
    ) -> AsyncIterator[Self]:
        """Start everything; yield once it is ready, and stop it when the context ends.

        ``more`` are flags of all services, and ``flags`` those of each kind of service; with ``crashes`` the processes
        check for crash points. With ``joining`` the graders know the API alone. With ``docker_host`` they run real
        containers there. ``linked`` has pairs of a process and ``"broker"`` or ``"store"``, between which there is a
        link that can be broken. ``prepare`` is called with each process before it starts, and ``fill`` before all
        of them. The client's connections go to the ingests in turn. Broker and store are private unless they are
        given; worlds whose faults spare them take ``shared`` ones, which start once for all.
        """
        directory.mkdir(parents=True, exist_ok=True)
        courses = directory / "courses.json"
        courses.write_text(json.dumps({name: {"tokens": [token_of(name)]} for name in COURSES}))
        ports = [free_port() for _ in range(ingests)]
        async with (
            contextlib.nullcontext(shared) if shared else private(directory) as servers,
            AsyncMongoClient(servers.dsn, serverSelectionTimeoutMS=5000) as mongodb,
            balancer([("127.0.0.1", each) for each in ports]) as port,
            Client.connect(f"http://127.0.0.1:{port}") as client,
            contextlib.AsyncExitStack() as stack,
        ):
            addresses = {"broker": servers.host.url, "store": servers.dsn}
            links = {(name, part): await stack.enter_async_context(_link(addresses[part])) for name, part in linked}
            environment = {
                "BROADWAY_LOG_DIR": "",
                "PYTHONPATH": PATH,
                fault_history.VARIABLE: str(directory / "history.jsonl"),
                **servers.environment,
            }
            environment |= {crashpoints.VARIABLE: str(directory / "crash")} if crashes else {}
            environment |= {"DOCKER_HOST": docker_host} if docker_host else {}
            counts = {"ingest": ingests, "dispatcher": dispatchers, "results": results, "notifier": notifiers}
            commands = _services(directory, counts, more, flags, health_files=health_files)
            for number, each in enumerate(ports, start=1):
                own_flags = ["--course-config", str(courses), "--bind-addr", "127.0.0.1", "--bind-port", str(each)]
                commands[f"ingest-{number}"] += [*own_flags, "--token", CLUSTER_TOKEN] if joining else own_flags
            roles = {}
            for name in [*commands, *(f"grader-{number}" for number in range(1, graders + 1))]:
                own = {part: _through(url, links.get((name, part))) for part, url in addresses.items()}
                where = [f"http://127.0.0.1:{port}", CLUSTER_TOKEN] if joining else [own["broker"]]
                command = commands.get(name) or _grader(name, where, slots, directory, is_real=bool(docker_host))
                variables = {"BROADWAY_AMQP_URL": own["broker"], "BROADWAY_MONGODB_DSN": own["store"], **environment}
                roles[name] = Role(name, command, variables, directory / f"{name}.log")
                prepare(roles[name])
            if fill:
                await fill()
            database = mongodb[servers.primary]
            executed = await database["job_outcome"].distinct("execution_id")
            world = cls(directory, servers, database, client, roles, links, executed)
            tasks = [asyncio.create_task(role.keep()) for role in roles.values()]
            try:
                for role in roles.values():
                    role.is_wanted.set()
                await until(client.is_ready, within=300)
                yield world
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def rabbit(self) -> Rabbit:
        """The private broker."""
        assert self.servers.rabbit, "the broker is shared"
        return self.servers.rabbit

    @property
    def store(self) -> Server[Store]:
        """The private store."""
        assert self.servers.store, "the store is shared"
        return self.servers.store

    def of(self, kind: str) -> list[Role]:
        """Return the processes of one kind."""
        return [role for name, role in self.roles.items() if name.startswith(kind)]

    async def ask(self, method: str, path: str, course: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Send a request, and repeat it until it is answered without a server error."""
        answers: list[httpx2.Response] = []

        async def is_answered() -> bool:
            with contextlib.suppress(httpx2.TransportError, httpx2.TimeoutException):
                answer = await self.client.http.request(
                    method, path, json=body, headers={"Authorization": f"Bearer {token_of(course)}", **headers}
                )
                if answer.status_code < 500:
                    answers.append(answer)
            return bool(answers)

        await until(is_answered, within=120)
        return answers[0]

    async def register(self, course: str, assignment: str, config: dict[str, Any]) -> None:
        answer = await self.ask("POST", f"/api/v1/grading_config/{course}/{assignment}", course, config)
        assert answer.status_code == 200, answer.text

    async def submit(self, course: str, assignment: str, students: int, *, key: str, size: int = 0) -> str:
        """Submit a run, with ``size`` bytes more in each environment."""
        more = {"FILE": "x" * size} if size else {}
        body = {"students_env": [{"STUDENT_ID": f"s{number}", **more} for number in range(students)]}
        path = f"/api/v1/grading_run/{course}/{assignment}"
        answer = await self.ask("POST", path, course, body, **{"Idempotency-Key": key})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["grading_run_id"])

    def finished_jobs(self) -> int:
        """Return the number of finished jobs by the history: repeated queries would load the store."""
        path = self.directory / "history.jsonl"
        return path.read_bytes().count(b'"what": "outcome"') if path.exists() else 0

    async def are_complete(self, run_ids: Sequence[str], *, within: float) -> None:
        """Return once all runs are complete; fail with the runs that hang or have failed."""

        async def states() -> dict[str, str]:
            found = await self.database["grading_run"].find({}, {"state": 1}).to_list()
            states = {str(run["_id"]): run["state"] for run in found}
            return {run_id: states.get(run_id, "lost") for run_id in run_ids}

        async def all_have_ended() -> bool:
            return all(state in (COMPLETE, FAILED) for state in (await states()).values())

        with contextlib.suppress(AssertionError):
            await until(all_have_ended, within=within)
        wrong = {run_id: state for run_id, state in (await states()).items() if state != COMPLETE}
        if wrong:
            raise AssertionError(f"not complete: {wrong}; {await self.describe(list(wrong))}")
        await self.remember()

    async def remember(self) -> None:
        """Record the outcomes that are stored now: they must never change."""
        for job in await self.jobs({"state": "finished"}):
            self.stored.setdefault((str(job["_id"]), job["generation"]), (job["outcome"], job["execution_id"]))

    async def jobs(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return jobs, joined with their outcomes, without results."""
        jobs = await self.database["grading_job"].find(query, {"results": 0}).to_list()
        return joined(jobs, await self._outcomes())

    async def _outcomes(self) -> list[dict[str, Any]]:
        return await self.database["job_outcome"].find({}, {"results": 0, "stdout": 0, "stderr": 0}).to_list()

    async def describe(self, run_ids: Sequence[str]) -> Any:
        jobs = await self.database["grading_job"].find({"grading_run_id": {"$in": list(run_ids)}}).to_list()
        runs = await self.database["grading_run"].find({}, {"config": 0, "students_env": 0}).to_list()
        open_jobs = [{k: v for k, v in job.items() if k not in ("stages", "results")} for job in jobs]
        open_jobs = [job for job in open_jobs if job["state"] != "finished"]
        return {
            "runs": [run for run in runs if str(run["_id"]) in run_ids],
            "jobs": dict(Counter(job["state"] for job in jobs)),
            "open": open_jobs[:5],
            "queues": await self.servers.host.queues(),
        }

    async def depths(self, *, within: float = 60) -> dict[str, int]:
        """Return the depths of all queues once they are empty, or after ``within`` seconds.

        The queue of unrouted facts does not count.
        """
        depths: dict[str, int] = {}

        async def are_empty() -> bool:
            depths.clear()
            depths.update(await self.servers.host.queues())
            depths.pop("broadway.unrouted", None)
            return bool(depths) and not any(depths.values())

        with contextlib.suppress(AssertionError):
            await until(are_empty, within=within)
        return depths

    def history(self) -> list[Entry]:
        return read(self.directory / "history.jsonl")

    async def outcomes(self, kind: str | None = None) -> Counter[str]:
        """Return the number of jobs by outcome; if ``kind`` is given, of this kind only."""
        found = await self.database["grading_job"].find({"type": kind} if kind else {}, {"outcome": 1}).to_list()
        return Counter(str(job["outcome"]) for job in found)

    def spooled(self) -> list[str]:
        """Return the outcomes that graders have not reported yet."""
        return spooled(self.directory / "work")

    async def verdict(
        self,
        *,
        slots: int,
        max_attempts: int = 3,
        cancelled: Collection[str] = (),
        expect: Callable[[Sequence[Mapping[str, Any]]], str] = expected,
    ) -> list[str]:
        """Return the violations that the checker finds, after all work has ended.

        ``cancelled`` are the jobs with a requested cancellation; ``expect`` returns a job's correct outcome from its
        stages.
        """
        depths = await self.depths()
        with contextlib.suppress(AssertionError):
            await until(lambda: not self.spooled())
        jobs = await self.jobs({})
        final = Final(
            runs=await self.database["grading_run"].find({}).to_list(),
            jobs=jobs,
            outcomes=await self._outcomes(),
            expected={str(job["_id"]): expect(job["stages"]) for job in jobs},
            cancelled=cancelled,
            earlier=self.stored,
            executed=self.executed,
            queues=depths,
            dead_letters=await self.database["dead_letter"].find({}, {"body": 0}).to_list(),
            spooled=self.spooled(),
            directories=[str(path) for path in (self.directory / "work").glob("jobs/*/*/*/*/*")],
        )
        return check(self.history(), final, slots=slots, max_attempts=max_attempts)


def _services(
    directory: Path,
    counts: Mapping[str, int],
    more: Sequence[str],
    flags: Mapping[str, Sequence[str]],
    *,
    health_files: bool,
) -> dict[str, list[str]]:
    """Return the command of each service process, by the name of the process."""
    commands = {
        f"{kind}-{number}": [sys.executable, "-m", f"broadway.{kind}", *FLAGS[kind], *more, *flags.get(kind, ())]
        for kind, count in counts.items()
        for number in range(1, count + 1)
    }
    for name, command in commands.items() if health_files else ():
        command += ["--health-file", str(directory / f"{name}.health")]
    return commands


def _grader(name: str, where: Sequence[str], slots: int, directory: Path, *, is_real: bool) -> list[str]:
    """Return the command of a grader; ``where`` is the address of its broker, or that of its API and a token."""
    work_dir, (url, *token) = str(directory / "work"), where
    if not is_real:
        program = str(TESTS / "programs" / "fake_grader.py")
        return [sys.executable, program, url, name, str(slots), work_dir, *token]
    # No API is there: it has the broker's address, and joins only if an API answers.
    own = [
        "--api-host",
        "http://127.0.0.1:9",
        "--amqp-url",
        url,
        "--slots",
        str(slots),
        "--work-dir",
        work_dir,
        "--heartbeat-interval",
        "1",
    ]
    return [sys.executable, "-m", "broadway.grader", *own, "token", name]


def _link(url: str) -> contextlib.AbstractAsyncContextManager[Link]:
    address = URL(url)
    return Link.to(address.host or "", address.port or 0)


def _through(url: str, link: Link | None) -> str:
    """Return the address of a server, over its link if there is one."""
    return str(URL(url).with_host("127.0.0.1").with_port(link.port)) if link else url

"""A whole deployment of processes, each of which comes back when it dies, and a broker and a store of their own."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
from faults.checker import Entry, Final, check, read
from faults.servers import Rabbit, Server, mongo
from harness import Client, free_port, token_of, until
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from broadway import crashpoints, history
from broadway.local.store import Store

TESTS = Path(__file__).parents[1]
COURSES = [f"cs{number}" for number in (101, 225, 241, 374, 421)]
RESTART_PAUSE = 0.2  # seconds
QUICK = ("--heartbeat-interval", "1", "--mongodb-timeout", "2")
FLAGS = {
    "results": QUICK,
    "dispatcher": (*QUICK, "--reconcile-interval", "0.5", "--leader-ttl", "1.5", "--retry-backoff", "0.05"),
    "ingest": QUICK,
}


@dataclass
class Role:
    """One process that is started again whenever it has ended."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    is_frozen: bool = False
    is_wanted: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        while True:
            await self.is_wanted.wait()
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *("setpriv", "--pdeathsig", "KILL", "--", *self.command),
                    env={**os.environ, **self.environment},
                    stdout=log,
                    stderr=log,
                    cwd=self.log.parent,
                )
            self.starts += 1
            try:
                await self.process.wait()
            except asyncio.CancelledError:
                self.send(signal.SIGKILL)
                await self.process.wait()
                raise
            await asyncio.sleep(RESTART_PAUSE)

    def send(self, number: signal.Signals) -> None:
        if self.process and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def freeze(self, seconds: float) -> None:
        self.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.send(signal.SIGCONT)


@dataclass
class World:
    """Services, graders with a fake runtime, and what happened to them."""

    directory: Path
    rabbit: Rabbit
    store: Server[Store]
    database: AsyncDatabase[dict[str, Any]]
    client: Client
    roles: dict[str, Role]

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        directory: Path,
        *,
        dispatchers: int = 1,
        results: int = 1,
        graders: int = 2,
        slots: int = 4,
        more: Sequence[str] = (),
        health_files: bool = False,
        docker_host: str | None = None,
        dispatcher_flags: Sequence[str] = (),
        crashes: bool = False,
    ) -> AsyncIterator[Self]:
        """Everything is ready when the context begins, and gone when it has ended.

        ``more`` are flags of all services; with ``crashes`` they look for crash points. With ``docker_host`` the
        graders run real containers there.
        """
        directory.mkdir(parents=True, exist_ok=True)
        courses = directory / "courses.json"
        courses.write_text(json.dumps({name: {"tokens": [token_of(name)]} for name in COURSES}))
        port = free_port()
        async with (
            Rabbit.running(directory / "rabbit") as rabbit,
            mongo(directory / "mongo") as store,
            AsyncMongoClient(store.current.dsn, serverSelectionTimeoutMS=5000) as mongodb,
            Client.connect(f"http://127.0.0.1:{port}") as client,
        ):
            environment = {
                "BROADWAY_AMQP_URL": rabbit.url,
                "BROADWAY_MONGODB_DSN": store.current.dsn,
                "BROADWAY_LOG_DIR": "",
                "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))),
                history.VARIABLE: str(directory / "history.jsonl"),
            }
            environment |= {crashpoints.VARIABLE: str(directory / "crash")} if crashes else {}
            services = {"ingest": 1, "dispatcher": dispatchers, "results": results}
            commands = {
                f"{name}-{number}": [sys.executable, "-m", f"broadway.{name}", *FLAGS[name], *more]
                for name, count in services.items()
                for number in range(1, count + 1)
            }
            for number in range(1, dispatchers + 1):
                commands[f"dispatcher-{number}"] += dispatcher_flags
            for name, command in commands.items() if health_files else ():
                command += ["--health-file", str(directory / f"{name}.health")]
            commands["ingest-1"] += ["--course-config", str(courses), "--bind-addr", "127.0.0.1"]
            commands["ingest-1"] += ["--bind-port", str(port)]
            program = str(TESTS / "programs" / "fake_grader.py")
            for name in (f"grader-{number}" for number in range(1, graders + 1)):
                if docker_host:
                    environment["DOCKER_HOST"] = docker_host
                    own = ["--amqp-url", rabbit.url, "--slots", str(slots), "--work-dir", str(directory / "work")]
                    flags = [*own, "--heartbeat-interval", "1"]
                    commands[name] = [sys.executable, "-m", "broadway.grader", *flags, "token", name]
                else:
                    commands[name] = [sys.executable, program, rabbit.url, name, str(slots), str(directory / "work")]
            roles = {
                name: Role(name, command, environment, directory / f"{name}.log") for name, command in commands.items()
            }
            world = cls(directory, rabbit, store, mongodb["AG"], client, roles)
            tasks = [asyncio.create_task(role.keep()) for role in roles.values()]
            try:
                for role in roles.values():
                    role.is_wanted.set()
                await until(client.is_ready)
                yield world
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def of(self, kind: str) -> list[Role]:
        """The processes of one role."""
        return [role for name, role in self.roles.items() if name.startswith(kind)]

    async def ask(self, method: str, path: str, course: str, body: Any = None, **headers: str) -> httpx2.Response:
        """A request that is repeated until somebody answers it."""
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

    async def submit(self, course: str, assignment: str, students: int, *, key: str) -> str:
        body = {"students_env": [{"STUDENT_ID": f"s{number}"} for number in range(students)]}
        path = f"/api/v1/grading_run/{course}/{assignment}"
        answer = await self.ask("POST", path, course, body, **{"Idempotency-Key": key})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["grading_run_id"])

    def finished_jobs(self) -> int:
        """By the history: asking the store again and again would be a load of its own."""
        path = self.directory / "history.jsonl"
        return path.read_bytes().count(b'"what": "outcome"') if path.exists() else 0

    async def are_over(self, run_ids: Sequence[str], *, within: float) -> None:
        """Return once all runs are over; fails with those that hang."""

        async def open_runs() -> list[str]:
            found = await self.database["grading_run"].find({}, {"state": 1}).to_list()
            over = {
                str(run["_id"]) for run in found if run["state"] in ("grading run is complete", "grading run failed")
            }
            return [run_id for run_id in run_ids if run_id not in over]

        async def none_is_open() -> bool:
            return not await open_runs()

        try:
            await until(none_is_open, within=within)
        except AssertionError:
            hanging = await open_runs()
            raise AssertionError(f"runs hang: {hanging}; {await self.describe(hanging)}") from None

    async def describe(self, run_ids: Sequence[str]) -> Any:
        jobs = await self.database["grading_job"].find({"grading_run_id": {"$in": list(run_ids)}}).to_list()
        runs = await self.database["grading_run"].find({}, {"config": 0, "students_env": 0}).to_list()
        open_jobs = [{k: v for k, v in job.items() if k not in ("stages", "results")} for job in jobs]
        open_jobs = [job for job in open_jobs if job["state"] != "finished"]
        return {
            "runs": [run for run in runs if str(run["_id"]) in run_ids],
            "jobs": dict(Counter(job["state"] for job in jobs)),
            "open": open_jobs[:5],
            "queues": await self.rabbit.queues(),
        }

    async def are_queues_empty(self, *, within: float = 60) -> None:
        """Return once no queue holds a message; heartbeats and their like come and go."""

        async def are_empty() -> bool:
            depths = await self.rabbit.queues()
            return not any(depth for name, depth in depths.items() if name != "broadway.unrouted")

        await until(are_empty, within=within)

    def history(self) -> list[Entry]:
        return read(self.directory / "history.jsonl")

    async def verdict(self, *, slots: int, max_attempts: int = 3) -> list[str]:
        """What the checker has to complain of, at the end of everything."""
        final = Final(
            runs=await self.database["grading_run"].find({}, {"config": 0}).to_list(),
            jobs=await self.database["grading_job"].find({}, {"stages": 0, "results": 0}).to_list(),
            dead_letters=await self.database["dead_letter"].count_documents({}),
            spooled=[str(path) for path in (self.directory / "work").rglob("*.json")],
            directories=[str(path) for path in (self.directory / "work").glob("jobs/*/*")],
        )
        return check(self.history(), final, slots=slots, max_attempts=max_attempts)

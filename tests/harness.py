"""Shared parts for tests of the whole system: a client of v1, graders with a fake runtime, and polling."""

import asyncio
import contextlib
import inspect
import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Self

import httpx2
from fake_containers import FakeContainers
from forks import fork_server
from pydantic import SecretStr

from broadway import connections
from broadway.grader import serve as grader
from broadway.grader.links.join import Membership
from broadway.grader.sandbox.mounts import detach, mount_memory
from broadway.local.processes import free_ports
from broadway.service import Stop
from broadway.settings.grader import GraderSettings
from broadway.settings.programs import ApiSettings

# True under `make faults`: tests run in full, and durations count, since nothing else uses the machine.
IS_WHOLE = "BROADWAY_FAULTS" in os.environ
METRICS_TOKEN = "metrics-token"
PATIENCE = 60  # timeout of a wait in seconds; a passing test never waits this long


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_MOST_WORKERS = 16
_given: set[int] = set()


def free_port() -> int:
    """Return a port that no test takes but the caller's, in whichever worker, even while its server is stopped."""
    while (port := free_ports(1)[0]) % _MOST_WORKERS != _WORKER or port in _given:
        pass
    _given.add(port)
    return port


async def until(condition: Callable[[], Awaitable[Any] | Any], *, within: float = PATIENCE) -> Any:
    """Poll until a condition is true, and return its value. After the timeout, fail with the condition's name."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            for number in itertools.count():
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return value
                # Polling loads the services: the interval grows.
                await asyncio.sleep(min(0.3, 0.02 + 0.01 * number))
    raise AssertionError(f"not within {within} s: {getattr(condition, '__qualname__', condition)}")


@contextlib.contextmanager
def small_disk_at(place: Path, *, size: int, inodes: int) -> Iterator[Path]:
    """Mount a file system with limits in bytes and inodes at a path that does not exist yet."""
    place.mkdir()
    mount_memory(place, size=size, inodes=inodes, mode=0o700)
    try:
        yield place
    finally:
        detach(place)


def stage(*command: str, **more: Any) -> dict[str, Any]:
    return {"image": "fake", "entrypoint": list(command), **more}


@dataclass(frozen=True)
class Place:
    """A virtual host and databases that no other test uses."""

    amqp_url: str
    mongodb_dsn: str
    name: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "BROADWAY_AMQP_URL": self.amqp_url,
            "BROADWAY_MONGODB_DSN": self.mongodb_dsn,
            "BROADWAY_MONGODB_PRIMARY": f"{self.name}_ag",
            "BROADWAY_MONGODB_LOGS": f"{self.name}_logs",
            "BROADWAY_LOG_DIR": "",
        }


@dataclass
class Client:
    """A client for the staff of courses: v1, and v2 for descriptions of runs, each with all its jobs."""

    http: httpx2.AsyncClient

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator[Self]:
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as http:
            yield cls(http)

    async def is_ready(self) -> bool:
        try:
            return (await self.http.get("/readyz")).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False

    async def metrics(self) -> httpx2.Response:
        return await self.http.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})

    async def post(self, path: str, body: Any, *, token: str) -> httpx2.Response:
        return await self.http.post(f"/api/v1/{path}", json=body, headers={"Authorization": f"Bearer {token}"})

    async def get(self, path: str, *, token: str, version: str = "v1") -> httpx2.Response:
        return await self.http.get(f"/api/{version}/{path}", headers={"Authorization": f"Bearer {token}"})

    async def register(self, course: str, assignment: str, *, students: list[Any], **more: Any) -> None:
        config = {"student_pipeline": students, **more}
        answer = await self.post(f"grading_config/{course}/{assignment}", config, token=token_of(course))
        assert answer.status_code == httpx2.codes.OK, answer.text

    async def submit(self, course: str, assignment: str, students: int, **more: Any) -> str:
        body = {"students_env": [{"STUDENT_ID": f"s{n}"} for n in range(students)], **more}
        answer = await self.post(f"grading_run/{course}/{assignment}", body, token=token_of(course))
        assert answer.status_code == httpx2.codes.OK, answer.text
        run_id: str = answer.json()["data"]["grading_run_id"]
        return run_id

    async def status(self, course: str, run_id: str) -> dict[str, Any]:
        answer = await self.get(f"grading_run_status/{course}/{run_id}", token=token_of(course))
        assert answer.status_code == httpx2.codes.OK, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    async def describe(self, course: str, run_id: str) -> dict[str, Any]:
        answer = await self.get(f"courses/{course}/runs/{run_id}", token=token_of(course), version="v2")
        assert answer.status_code == httpx2.codes.OK, answer.text
        run: dict[str, Any] = answer.json()
        return {**run, "jobs": await self.jobs(course, run_id)}

    async def jobs(self, course: str, run_id: str) -> list[dict[str, Any]]:
        """Return all jobs of a run, from its pages."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            path = f"courses/{course}/runs/{run_id}/jobs?limit=500{after}"
            answer = await self.get(path, token=token_of(course), version="v2")
            assert answer.status_code == httpx2.codes.OK, answer.text
            page = answer.json()
            found += page["items"]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    async def finished(self, course: str, run_id: str, *, within: float = PATIENCE) -> dict[str, Any]:
        """Wait until the run is over, and return its description."""

        async def is_over() -> bool:
            return (await self.status(course, run_id))["state"] in ("grading run is complete", "grading run failed")

        await until(is_over, within=within)
        return await self.describe(course, run_id)


def token_of(course: str) -> str:
    return f"staff-{course.removeprefix('cs')}"


@dataclass
class Graders:
    """Graders in this process, with a fake runtime."""

    amqp_url: str
    directory: Path
    group: asyncio.TaskGroup
    running: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = field(default_factory=dict)
    given: list[GraderSettings] = field(default_factory=list)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, amqp_url: str, directory: Path) -> AsyncIterator[Self]:
        async with asyncio.TaskGroup() as group:
            graders = cls(amqp_url, directory, group)
            try:
                yield graders
            finally:
                graders.end()

    def end(self) -> None:
        """Stop all graders; they give their running jobs back at once."""
        for settings in self.given:
            settings.drain_timeout = 0
        for stop, _ in self.running.values():
            stop.set()

    def start(self, name: str, *, slots: int = 2, drain_timeout: float = 5, has_api: bool = True) -> FakeContainers:
        """Start a grader that connects to the broker."""
        understood = {"batches": True, "cancelled_logs": True}
        membership = Membership(heartbeat_interval=1, amqp_url=self.amqp_url, has_api=has_api, **understood)
        settings = self.settings(name, slots=slots, drain_timeout=drain_timeout)
        return self._launch(name, partial(grader.serve, settings, membership))

    def attach(
        self, name: str, api_host: str, *, slots: int = 2, drain_timeout: float = 5, **more: Any
    ) -> FakeContainers:
        """Start a grader that has only the API's address; ``more`` are further settings."""
        settings = self.settings(name, slots=slots, drain_timeout=drain_timeout, api_host=api_host, **more)
        return self._launch(name, partial(grader.run, settings))

    def settings(
        self, name: str, *, slots: int, drain_timeout: float, api_host: str = "", **more: Any
    ) -> GraderSettings:
        settings = GraderSettings.model_construct(
            token=more.pop("token", SecretStr("cluster-token")),
            grader_id=name,
            api_host=api_host,
            amqp_url=None,
            slots=slots,
            pool="default",
            verbose=False,
            work_dir=self.directory / name,
            drain_timeout=drain_timeout,
            health_file=self.health_file(name),
            **more,
        )
        self.given.append(settings)
        return settings

    def health_file(self, name: str) -> Path:
        """Return the path of the file in which a grader reports its health."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / f"{name}.health"

    def _launch(self, name: str, serve: Callable[..., Coroutine[Any, Any, None]]) -> FakeContainers:
        containers, stop = FakeContainers(), Stop()
        self.running[name] = (stop, self.group.create_task(serve(containers=containers, stop=stop)))
        return containers

    async def stop(self, name: str) -> None:
        stop, task = self.running.pop(name)
        stop.set()
        await task


@dataclass
class Cluster:
    place: Place
    settings: ApiSettings
    client: Client
    graders: Graders
    opened: connections.Connections
    stack: contextlib.AsyncExitStack = field(repr=False)


@dataclass(frozen=True)
class Command:
    """The exit code and output of a `broadway` command."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        return self.stdout.splitlines()[-1]


async def broadway(*arguments: str, stdin: str = os.devnull, **environment: str) -> Command:
    """Run `broadway ...` in its own process."""
    return await module("broadway", *arguments, stdin=stdin, **environment)


async def module(name: str, *arguments: str, stdin: str = os.devnull, **environment: str) -> Command:
    """Run `python -m NAME ...` in its own process, with further variables; ``stdin`` is the path of its input."""
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        process = await fork_server().start(
            ("-m", name, *arguments),
            environment={**os.environ, **environment},
            directory=Path.cwd(),
            stdout=stdout,
            stderr=stderr,
            stdin=stdin,
        )
        try:
            exit_code = await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        return Command(exit_code, _text(stdout), _text(stderr))


def _text(written: IO[bytes]) -> str:
    written.seek(0)
    return written.read().decode()

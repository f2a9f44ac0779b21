"""A whole system in this process: three services with their own connections, graders, and a capture of messages."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from harness import Client, Graders, Place, free_port, token_of, until
from pymongo import AsyncMongoClient
from recordings.capture import Capture, capturing

from broadway import connections
from broadway.dispatcher import serve as dispatcher
from broadway.ingest import serve as ingest
from broadway.results import serve as results
from broadway.service import Stop
from broadway.settings.programs import ApiSettings

CLUSTER = {"Authorization": "Bearer cluster-token"}
OPERATOR = {"Authorization": "Bearer operator-token"}
# Every request has the same trace, so that recordings of it can be compared.
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-Id": "recorded"}

REMOTE, SPARE = "remote", "spare"  # pools of graders behind the API
REFUSED = 1  # a port at which no program listens
COURSES: dict[str, dict[str, Any]] = {
    "cs101": {"tokens": ["staff-101"], "query_tokens": ["query-101"]},
    "cs241": {"tokens": ["staff-241"], "query_tokens": [], "weight": 2.5, "concurrency": 8},
    "cs225": {"tokens": ["staff-225"], "pool": REMOTE},
    "cs374": {"tokens": ["staff-374"], "pool": SPARE},
    "cs411": {"tokens": ["staff-411"]},
}
JOB_KEYS = (
    *(f"course.{course}.{job_class}" for course in COURSES for job_class in ("interactive", "bulk")),
    *(f"ready.{pool}" for pool in ("default", REMOTE, SPARE)),
)


def databases(name: str) -> dict[str, str]:
    """Return the names of a place's databases by their role."""
    return {"primary": f"{name}_ag", "logs": f"{name}_logs"}


def settings_for(place: Place, **more: Any) -> ApiSettings:
    """Return settings of services under which no message depends on time alone: heartbeats are rare."""
    return ApiSettings.model_validate(
        {
            "artifact_days": 36_500,  # a recording is read years later
            "amqp_url": place.amqp_url,
            "mongodb": {"dsn": place.mongodb_dsn, **databases(place.name)},
            "token": "cluster-token",
            "operator_token": "operator-token",
            "original_graders": f"{REMOTE},{SPARE}",
            "bind_addr": "127.0.0.1",
            "bind_port": free_port(),
            "log": {"dir": ""},
            "heartbeat_interval": 120,
            "reconcile_interval": 0.5,
            "retry_backoff": 0.05,
            "leader_ttl": 60,
            "max_attempts": 2,
            "gateway_pool": REMOTE,
            "callback": {"allow": "127.0.0.0/8", "ports": f"{REFUSED}", "http": True},
            **more,
        }
    )


@dataclass
class System:
    """A running system that the scenario drives and observes."""

    client: Client
    graders: Graders
    capture: Capture
    place: Place
    store: AsyncMongoClient[dict[str, Any]]

    @property
    def http(self) -> httpx2.AsyncClient:
        return self.client.http

    @property
    def url(self) -> str:
        return str(self.http.base_url)

    async def hand_in(
        self, course: str, assignment: str, student: str, files: dict[str, bytes], *, key: str = ""
    ) -> Any:
        """Hand in files, and return the submission."""
        headers = {**TRACE, "Authorization": f"Bearer {token_of(course)}", "Idempotency-Key": key or f"of {student}"}
        answer = await self.client.http.post(
            f"/api/v2/courses/{course}/assignments/{assignment}/submissions",
            params={"student": student},
            files=[("files", (name, content)) for name, content in files.items()],
            headers=headers,
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, **headers: str) -> Any:
        """Call v2 with the token of the course in the path, or the operators'; check the status, return the answer."""
        _, _, course = path.partition("courses/")
        token = {"Authorization": f"Bearer {token_of(course.partition('/')[0])}"} if course else OPERATOR
        answer = await self.http.request(method, f"/api/v2/{path}", json=body, headers={**token, **headers})
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def over(self, run_id: str, *, round_: int = 1) -> None:
        """Wait until a run has ended and its end is published."""
        states = {"grading run is complete", "grading run failed"}

        def is_published() -> bool:
            steps = self.capture.heard("run.advanced", run_id=run_id, round=round_)
            return any(each["state"] in states for each in steps)

        await until(is_published)

    async def runs(self, run_id: str, *, count: int = 1, **values: Any) -> dict[str, Any]:
        """Wait until ``count`` jobs of a run have started and the last start is stored; return its message."""
        started = await self.capture.wait_for("job.started", count=count, run_id=run_id, **values)
        await self.find("grading_job", execution_id=started["execution_id"], state="running")
        return started

    async def find(self, collection: str, **values: Any) -> dict[str, Any]:
        """Wait for a document with these values, and return it."""

        async def query() -> dict[str, Any] | None:
            return await self.store[databases(self.place.name)["primary"]][collection].find_one(values)

        found: dict[str, Any] = await until(query)
        return found


@contextlib.asynccontextmanager
async def serving(settings: ApiSettings) -> AsyncIterator[Client]:
    """Run the ingest service alone, and yield a client once it is ready."""
    async with contextlib.AsyncExitStack() as stack:
        stop = Stop()
        opened = await stack.enter_async_context(connections.opened(settings, service="ingest"))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(stop.set)
        group.create_task(ingest.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop))
        client = await stack.enter_async_context(Client.connect(f"http://127.0.0.1:{settings.bind_port}"))
        client.http.headers.update(TRACE)
        await until(client.is_ready)
        yield client


@contextlib.asynccontextmanager
async def running(place: Place, directory: Path, *, management_url: str) -> AsyncIterator[System]:
    """Run a whole system that has only its courses."""
    config = directory / "courses.json"
    config.write_text(json.dumps(COURSES))
    settings = settings_for(place, course_config=config, management_url=management_url)
    async with contextlib.AsyncExitStack() as stack:
        stop = Stop()
        client = await stack.enter_async_context(serving(settings))
        capture = await stack.enter_async_context(capturing(place.amqp_url, job_keys=JOB_KEYS))
        parts = {
            part: await stack.enter_async_context(connections.opened(settings, service=name))
            for name, part in (("results", results), ("dispatcher", dispatcher))
        }
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(stop.set)
        for part, opened in parts.items():
            group.create_task(part.serve(settings, store=opened.store, rabbit=opened.rabbit, stop=stop))
        graders = await stack.enter_async_context(Graders.open(place.amqp_url, directory / "graders"))
        store: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(place.mongodb_dsn, tz_aware=True)
        yield System(client, graders, capture, place, await stack.enter_async_context(store))


def host() -> str:
    """Return this host's name, as services and graders report it."""
    return os.uname().nodename

"""v1 as its clients and graders speak it, with the API as a separate process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import websockets
from harness import PATIENCE, Client, Place, free_port, token_of, until
from processes import Processes, processes
from websockets.asyncio.client import ClientConnection

Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]

CLUSTER_TOKEN = "cluster-token"
OPERATOR_TOKEN = "operator-token"
COURSES = {
    "cs241": {"tokens": ["staff-241", "shared"], "query_tokens": ["query-241"], "title": "of another program"},
    "cs101": {"tokens": ["staff-101", "shared"], "query_tokens": ["query-101"]},
    "cs225": {"tokens": ["staff-225"]},
    "cs999": {"tokens": []},
}
# Heartbeats expire in the tests of liveness only, and a job has one attempt, as in the original.
PATIENT = ("--heartbeat-interval", "60", "--max-attempts", "1", "--reconcile-interval", "0.5")

COURSE, OTHER_COURSE, THIRD_COURSE = list(COURSES)[:3]

NOBODY = "0123456789abcdef01234567"  # an unused id
NOT_FOUND_RUN = "grading run with the given ID not found"
NO_LOG = "grading job with the given ID not found or has not finished"  # the original lacks a blank after "ID"
NOT_FOUND_JOB = "job with the given ID not found"
NOT_STARTED = "cannot update job that is not in STARTED state"
MALFORMED = "Input is malformed; could not decode JSON object."

READY, PRE, STUDENTS, POST, FINISHED, FAILED = (
    "ready to be started",
    "pre processing job has been scheduled",
    "students grading jobs have been scheduled",
    "post processing job has been scheduled",
    "grading run is complete",
    "grading run failed",
)
QUEUED, STARTED, JOB_FAILED, SUCCEEDED = (
    "grading job has been scheduled",
    "grading job is running",
    "grading job failed",
    "grading job was successful",
)

CORS = "access-control-allow-origin"
JSON = "application/json; charset=UTF-8"


@dataclass(frozen=True)
class Endpoint:
    """A row of the reference's table; the path has fields ``course``, ``id`` (of a run or job) and ``worker``."""

    row: str
    method: str
    path: str

    def __str__(self) -> str:
        return self.row

    def at(self, *, course: str = COURSE, identity: str = NOBODY, worker: str = "nobody") -> str:
        return "/api/v1/" + self.path.format(course=course, id=identity, worker=worker)


ADMIN = [
    Endpoint("C1", "POST", "grading_config/{course}/mp1"),
    Endpoint("C2", "GET", "grading_config/{course}/mp1"),
    Endpoint("C3", "POST", "grading_run/{course}/mp1"),
    Endpoint("C5", "GET", "grading_run_env/{course}/{id}"),
    Endpoint("C6", "GET", "grading_job_log/{course}/{id}"),
    Endpoint("C7", "GET", "worker/{course}/all"),
    Endpoint("C8", "GET", "queue/{course}/length"),
]
STREAM = Endpoint("S1", "GET", "stream/{course}/{id}")
MEMBER = [
    Endpoint("C4", "GET", "grading_run_status/{course}/{id}"),
    Endpoint("C9", "GET", "queue/{course}/{id}/position"),
    STREAM,
]
REGISTER = Endpoint("W1", "POST", "worker/{worker}")
KNOWN_WORKER = [
    Endpoint("W2", "GET", "grading_job/{worker}"),
    Endpoint("W3", "POST", "grading_job/{worker}"),
    Endpoint("W4", "POST", "heartbeat/{worker}"),
]
WEBSOCKET = Endpoint("W5", "GET", "worker_ws/{worker}")
CLIENTS = ADMIN + MEMBER
WORKERS = [REGISTER, *KNOWN_WORKER]
ALL = [*CLIENTS, *WORKERS, WEBSOCKET]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def query_token_of(course: str) -> str:
    return token_of(course).replace("staff", "query")


def data(answer: httpx2.Response) -> Any:
    """Return the data of a successful answer."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON), answer.text
    assert answer.headers[CORS] == "*"
    body = answer.json()
    assert (set(body), body["status"]) == ({"status", "data"}, "success")
    return body["data"]


def is_refused(answer: httpx2.Response, status: int, message: str) -> bool:
    """Return whether an answer has this status; its body must be exactly the application's refusal."""
    assert answer.headers["content-type"] == JSON, answer.text
    assert answer.headers[CORS] == "*"
    assert answer.json() == {"status": "fail", "data": {"message": message}}
    return answer.status_code == status


def is_invalid(answer: httpx2.Response, text: str | None = None) -> bool:
    """Return whether an answer has status 400; its ``data`` must be a plain string, with the server's own words."""
    assert answer.headers["content-type"] == JSON, answer.text
    assert answer.headers[CORS] == "*"
    body = answer.json()
    assert (set(body), body["status"]) == ({"status", "data"}, "fail")
    assert isinstance(body["data"], str)
    assert body["data"] == text if text else body["data"]
    return answer.status_code == 400


def result(job_id: str, *, success: bool = True, **more: Any) -> dict[str, Any]:
    """Return a grader's report of a job."""
    logs = {"stdout": f"output of {job_id}", "stderr": f"errors of {job_id}"}
    return {"grading_job_id": job_id, "success": success, "results": [{"success": success}], "logs": logs} | more


@dataclass
class Server:
    """The API as a process; ``drain`` releases the graders that tests leave behind."""

    client: Client
    port: int
    flags: Sequence[str]
    processes: Processes
    pollers: list["Poller"] = field(default_factory=list)

    @property
    def http(self) -> httpx2.AsyncClient:
        return self.client.http

    @property
    def janitor(self) -> "Poller":
        """The grader that takes all remaining jobs; it must be registered once."""
        return Poller(self, "janitor")

    async def start(self) -> None:
        await self.processes.service("api", *self.flags)
        await until(self.client.is_ready)

    async def ask(self, endpoint: Endpoint, token: str = CLUSTER_TOKEN, **where: str) -> httpx2.Response:
        """Send a request; the body of a POST request is invalid JSON."""
        body = b"{" if endpoint.method == "POST" else None
        return await self.http.request(endpoint.method, endpoint.at(**where), headers=bearer(token), content=body)

    async def exchange(self, request: str) -> bytes:
        """Send exactly these lines as a request, and return the answer byte for byte."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [*request.splitlines(), "Host: 127.0.0.1", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def poller(self, name: str, *, register: bool = True) -> "Poller":
        poller = Poller(self, name)
        if register:
            data(await poller.register())
        self.pollers.append(poller)
        return poller

    async def worker(self, name: str) -> dict[str, Any]:
        """Return C7's entry for a worker, whose host has the worker's name."""
        nodes = data(await self.client.get(f"worker/{COURSE}/all", token=token_of(COURSE)))["worker_nodes"]
        (node,) = [node for node in nodes if node["hostname"] == f"{name}.example"]
        return dict(node)

    async def dead(self, name: str, *, within: float = PATIENCE) -> None:
        """Return once C7 shows a worker as dead."""

        async def is_dead() -> bool:
            return not (await self.worker(name))["alive"]

        await until(is_dead, within=within)

    async def length(self, course: str = COURSE) -> int:
        return int(data(await self.client.get(f"queue/{course}/length", token=token_of(course)))["length"])

    async def state(self, run_id: str, course: str = COURSE) -> str:
        return str((await self.client.status(course, run_id))["state"])

    async def jobs(self, run_id: str, course: str = COURSE) -> dict[str, str]:
        """Return the states of a run's student jobs, by id and in order."""
        states: dict[str, str] = (await self.client.status(course, run_id))["student_jobs_state"]
        return states

    async def turns(self, run_id: str, state: str) -> None:
        """Return once a run has a state."""

        async def has_turned() -> bool:
            return await self.state(run_id) == state

        await until(has_turned)

    async def drain(self) -> None:
        """Report the jobs that pollers hold, and empty the queues."""
        for poller in self.pollers:
            for job_id in poller.held:
                await poller.report(job_id, success=False)
        self.pollers.clear()
        while (answer := await self.janitor.poll()).status_code == 200:
            await self.janitor.report(answer.json()["data"]["grading_job_id"], success=False)


@dataclass
class Poller:
    """A grader that speaks HTTP."""

    server: Server
    name: str
    held: list[str] = field(default_factory=list)

    async def _post(self, path: str, body: Any, token: str = CLUSTER_TOKEN) -> httpx2.Response:
        url = f"/api/v1/{path}/{self.name}"
        if isinstance(body, bytes):
            return await self.server.http.post(url, content=body, headers=bearer(token))
        return await self.server.http.post(url, json=body, headers=bearer(token))

    async def register(self, body: Any = None, *, token: str = CLUSTER_TOKEN) -> httpx2.Response:
        return await self._post("worker", {"hostname": f"{self.name}.example"} if body is None else body, token)

    async def beat(self, body: Any = b"") -> httpx2.Response:
        return await self._post("heartbeat", body)

    async def poll(self) -> httpx2.Response:
        return await self.server.http.get(f"/api/v1/grading_job/{self.name}", headers=bearer(CLUSTER_TOKEN))

    async def take(self) -> dict[str, Any]:
        """Poll for a job, which must exist; the broker may be unavailable for a moment."""
        async with asyncio.timeout(PATIENCE):
            while (answer := await self.poll()).status_code == 498:
                pass
        job: dict[str, Any] = data(answer)
        self.held.append(job["grading_job_id"])
        return job

    async def report(self, job_id: str, *, success: bool = True, **more: Any) -> httpx2.Response:
        return await self.tell(result(job_id, success=success, **more))

    async def tell(self, body: Any) -> httpx2.Response:
        """Post any body as a result."""
        return await self._post("grading_job", body)

    async def finish(self, job: dict[str, Any], *, success: bool = True, **more: Any) -> None:
        """Report a job; the report must be accepted."""
        assert data(await self.report(job["grading_job_id"], success=success, **more)) is None
        self.held.remove(job["grading_job_id"])

    async def grade(self, *, success: bool = True) -> None:
        await self.finish(await self.take(), success=success)


@dataclass
class Socket:
    """A grader's WebSocket."""

    connection: ClientConnection
    name: str

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, server: Server, name: str, *, authorization: str | None = f"Bearer {CLUSTER_TOKEN}", **options: Any
    ) -> AsyncIterator[Self]:
        """Open a connection, and send nothing on it."""
        headers = {} if authorization is None else {"Authorization": authorization}
        headers |= options.pop("headers", {})
        url = f"ws://127.0.0.1:{server.port}/api/v1/worker_ws/{name}"
        async with websockets.connect(url, additional_headers=headers, **options) as connection:
            yield cls(connection, name)

    @classmethod
    @contextlib.asynccontextmanager
    async def join(cls, server: Server, name: str, **options: Any) -> AsyncIterator[Self]:
        """Register a grader; afterwards wait until it is dead, so that it takes no more jobs."""
        try:
            async with cls.open(server, name, **options) as socket:
                assert await socket.register() == {"success": True}
                yield socket
        finally:
            await server.dead(name)

    async def register(self) -> Any:
        await self.say("register", {"hostname": f"{self.name}.example"})
        return await self.hear()

    async def say(self, kind: str, args: Any) -> None:
        await self.connection.send(json.dumps({"type": kind, "args": args}))

    async def hear(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            message = await self.connection.recv()
        assert isinstance(message, str)
        return json.loads(message)

    async def report(self, job: dict[str, Any], *, success: bool = True, **more: Any) -> None:
        await self.say("job_result", result(job["grading_job_id"], success=success, **more))

    async def hears_nothing(self) -> bool:
        """Return whether the server sends no message before the answer to a ping or right after it."""
        await (await self.connection.ping())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await self.connection.recv()
                return False
        return True

    async def closing(self) -> tuple[int | None, str | None]:
        """Return the code and reason with which the server closes; 1005 stands for no code."""
        async with asyncio.timeout(PATIENCE):
            await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason


@contextlib.asynccontextmanager
async def serving(place: Place, directory: Path, *flags: str) -> AsyncIterator[Server]:
    """Run `python -m broadway.api` with the courses above, and wait until it is ready."""
    directory.mkdir(parents=True, exist_ok=True)
    courses = directory / "courses.json"
    courses.write_text(json.dumps(COURSES))
    port = free_port()
    tokens = ["--token", CLUSTER_TOKEN, "--operator-token", OPERATOR_TOKEN, "--original-graders", "default"]
    fixed = [*tokens, "--bind-addr", "127.0.0.1", "--bind-port", str(port)]
    async with (
        processes(directory / "processes", place.environment) as started,
        Client.connect(f"http://127.0.0.1:{port}") as client,
    ):
        server = Server(client, port, [*fixed, "--course-config", str(courses), *flags], started)
        await server.start()
        yield server

"""The course's own server: it has the submissions, the tests, the report, and the token for Broadway.

Containers send their requests to this server, so they need no token. It listens only on the containers' network.
"""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import uvicorn
from docker.errors import DockerException
from requests.exceptions import RequestException
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from demo import submissions

Outcomes = Callable[[str], list[dict[str, Any]]]

START = 10.0  # seconds
_ID = re.compile(r"[A-Za-z0-9_-]+")


class CourseServerError(Exception):
    """The course server cannot serve at an address that containers reach."""


class CourseServer:
    """The server's routes and files; `outcomes` returns the rows of a run's report from Broadway."""

    def __init__(self, outcomes: Outcomes, directory: Path) -> None:
        self._outcomes = outcomes
        self._directory = directory
        self._roster = submissions.expected().keys()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/submissions/{student}", self.submission),
                Route("/runs/{run}/outcomes", self.give_outcomes),
                Route("/runs/{run}/tests", partial(self.take, self.tests), methods=["PUT"]),
                Route("/runs/{run}/tests", self.give_tests),
                Route("/runs/{run}/report", partial(self.take, self.report), methods=["PUT"]),
            ]
        )

    def tests(self, run: str) -> Path:
        """Return the path of a run's tests."""
        return self._directory / "tests" / f"{run}.json"

    def report(self, run: str) -> Path:
        """Return the path of a run's report, which need not exist yet."""
        return self._directory / "reports" / f"{run}.md"

    async def submission(self, request: Request) -> Response:
        student = request.path_params["student"]
        if student not in self._roster:
            return Response(status_code=404)
        return Response(submissions.source(student), media_type="text/x-python")

    async def give_outcomes(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._outcomes, request.path_params["run"]))

    async def give_tests(self, request: Request) -> Response:
        tests = self.tests(_run(request))
        return FileResponse(tests) if tests.exists() else Response(status_code=404)

    async def take(self, place: Callable[[str], Path], request: Request) -> Response:
        """Store the request's body at the run's path."""
        path = place(_run(request))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(await request.body())
        return Response(status_code=204)


def _run(request: Request) -> str:
    run = str(request.path_params["run"])
    if not _ID.fullmatch(run):
        raise HTTPException(404)
    return run


def gateway(docker_host: str) -> str:
    """Return the address at which an engine's containers reach this machine."""
    try:
        client = docker.APIClient(base_url=docker_host, version="auto")
        with contextlib.closing(client):
            pools = client.inspect_network("bridge")["IPAM"]["Config"]
        return next(str(pool["Gateway"]) for pool in pools if "." in pool.get("Gateway", ""))
    except (DockerException, RequestException, StopIteration) as error:
        raise CourseServerError(f"no address of this machine on the containers' network: {error}") from error


def listen(address: str, port_file: Path) -> socket.socket:
    """Listen at an address of this machine, on the same port as last time if it is free.

    Jobs of a run that was interrupted have the old port in their environment.
    """
    before = int(port_file.read_text()) if port_file.exists() else 0
    for port in (before, 0):
        try:
            listening = socket.create_server((address, port))
        except OSError as error:
            trouble = error
        else:
            port_file.write_text(str(listening.getsockname()[1]))
            return listening
    raise CourseServerError(f"cannot listen on {address}, where containers expect the server: {trouble}")


@contextlib.contextmanager
def serve(app: Starlette, listening: socket.socket) -> Iterator[str]:
    """Serve on a socket, and yield the URL."""
    address, port = listening.getsockname()
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, args=([listening],), name="course server")
    thread.start()
    try:
        _await_start(server, thread)
        yield f"http://{address}:{port}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise CourseServerError("the course server does not start")
        time.sleep(0.02)

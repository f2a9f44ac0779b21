"""Our grader attached to a server of the original, whose schemas refuse unknown fields."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from harness import Graders, free_port, stage, until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

JOB_ID = "5dc0b5d0c2a6f9e7d1a0b1c2"
RESULT_KEYS = {"grading_job_id", "success", "results", "logs"}


@dataclass
class Original:
    """The part of the original that one job needs, with the original's strictness."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    beats: int = 0

    def app(self) -> Starlette:
        job = "/api/v1/grading_job/{id}"
        return Starlette(
            routes=[
                Route("/api/v1/worker/{id}", self.register, methods=["POST"]),
                Route(job, self.poll, methods=["GET"]),
                Route(job, self.report, methods=["POST"]),
                Route("/api/v1/heartbeat/{id}", self.beat, methods=["POST"]),
                WebSocketRoute("/api/v1/worker_ws/{id}", self.attend),
            ]
        )

    def expect(self, body: dict[str, Any], keys: set[str]) -> None:
        if body.keys() != keys:
            self.problems.append(f"{sorted(body)} instead of {sorted(keys)}")

    async def register(self, request: Request) -> Response:
        self.expect(await request.json(), {"hostname"})
        if request.url.query:
            self.problems.append(f"query {request.url.query}")
        return JSONResponse({"status": "success", "data": {"heartbeat": 1}})

    async def poll(self, request: Request) -> Response:
        if "prefer" in request.headers:
            self.problems.append("Prefer")
        if self.jobs:
            return JSONResponse({"status": "success", "data": self.jobs.pop()})
        return JSONResponse({"status": "fail", "data": {"message": "no jobs available"}}, 498)

    async def report(self, request: Request) -> Response:
        body = await request.json()
        self.expect(body, RESULT_KEYS)
        self.results.append(body)
        return JSONResponse({"status": "success", "data": None})

    async def beat(self, _: Request) -> Response:
        self.beats += 1
        return Response(media_type="application/json")

    async def attend(self, websocket: WebSocket) -> None:
        await websocket.accept()
        message = await websocket.receive_json()
        self.expect(message, {"type", "args"})
        self.expect(message["args"], {"hostname"})
        await websocket.send_json({"success": True})
        while self.jobs:
            await websocket.send_json(self.jobs.pop())
            message = await websocket.receive_json()
            self.expect(message, {"type", "args"})
            self.expect(message["args"], RESULT_KEYS)
            self.results.append(message["args"])
        with contextlib.suppress(Exception):
            await websocket.receive_json()


@pytest.fixture
async def original() -> AsyncIterator[tuple[Original, int]]:
    server, port = Original(), free_port()
    config = uvicorn.Config(server.app(), host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    running.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(running.serve())
    await until(lambda: running.started)
    yield server, port
    running.should_exit = True
    await task


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize(("command", "success"), [(("print", "done"), True), (("exit", "1"), False)])
async def test_the_grader_sends_only_fields_that_the_original_knows(
    original: tuple[Original, int], tmp_path: Path, scheme: str, command: tuple[str, ...], *, success: bool
) -> None:
    server, port = original
    server.jobs.append({"grading_job_id": JOB_ID, "stages": [stage(*command, env={})]})
    async with Graders.open("", tmp_path) as graders:
        graders.attach("host1", f"{scheme}://127.0.0.1:{port}", slots=1)
        await until(lambda: server.results)
        if scheme == "http":
            await until(lambda: server.beats)

    (result,) = server.results
    assert (result["grading_job_id"], result["success"]) == (JOB_ID, success)
    assert result["logs"].keys() == {"stdout", "stderr"}
    assert [entry["success"] for entry in result["results"]] == [success]
    assert json.dumps(result["results"][0]["data"])
    assert server.problems == []

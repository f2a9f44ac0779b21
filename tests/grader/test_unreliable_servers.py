"""Our grader attached to servers that give odd answers, hang up or refuse, scripted step by step."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import uvicorn
from harness import Graders, free_port, stage, until
from spools import spooled
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from websockets.asyncio.server import ServerConnection, serve

from broadway.domain.abilities import ABILITIES

JOB_ID = "5dc0b5d0c2a6f9e7d1a0b1c2"
NEXT_ID = "5dc0b5d0c2a6f9e7d1a0b1c3"
OURS = [("broadway-heartbeat-interval", "1")]

Conversation = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(*script: Conversation, ours: bool) -> AsyncIterator[str]:
    """Serve these conversations, one per connection on which a grader registers; yield the address."""
    remaining = list(script)

    async def converse(socket: ServerConnection) -> None:
        with contextlib.suppress(EOFError):
            await remaining.pop(0)(socket)

    async def handle(socket: ServerConnection) -> None:
        async for message in socket:
            socket.registration = json.loads(message)  # type: ignore[attr-defined]
            await socket.send('{"success": true}')
            await (converse(socket) if remaining else socket.wait_closed())
            return

    port = free_port()

    def mark(_: ServerConnection, __: Any, response: Any) -> None:
        for name, value in OURS if ours else []:
            response.headers[name] = value

    async with serve(handle, "127.0.0.1", port, process_response=mark):
        yield f"ws://127.0.0.1:{port}"
    assert not remaining, "every conversation has been had"


def job(*command: str, job_id: str = JOB_ID) -> str:
    return json.dumps({"grading_job_id": job_id, "stages": [stage(*command, env={})]})


async def result_on(socket: ServerConnection) -> dict[str, Any]:
    message = json.loads(await socket.recv())
    assert message["type"] == "job_result"
    args: dict[str, Any] = message["args"]
    return args


def registration(socket: ServerConnection) -> dict[str, Any]:
    args: dict[str, Any] = socket.registration["args"]  # type: ignore[attr-defined]
    return args


async def test_a_result_lost_with_its_connection_is_sent_again(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []

    async def cut(socket: ServerConnection) -> None:
        assert registration(socket)["running"] == []
        await socket.send(job("print", "answer"))
        results.append(await result_on(socket))
        socket.transport.abort()

    async def listen(socket: ServerConnection) -> None:
        assert registration(socket)["running"] == [JOB_ID]
        results.append(await result_on(socket))
        await socket.wait_closed()

    async with scripted(cut, listen, ours=True) as address, Graders.open("", tmp_path) as graders:
        graders.attach("host1", address, slots=1)
        await until(lambda: len(results) == 2)
        assert spooled(tmp_path), "nothing has come back yet"

    assert results[0] == results[1]
    assert results[0]["verdict"]["outcome"] == "succeeded"
    assert not spooled(tmp_path), "the connection was closed in good order"


async def test_a_refused_result_is_dropped_and_the_grader_goes_on(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []

    async def refuse(socket: ServerConnection) -> None:
        await socket.send(job("exit", "0"))
        await result_on(socket)
        await socket.close(1002, "cannot update job that is not in STARTED state")

    async def go_on(socket: ServerConnection) -> None:
        assert registration(socket)["running"] == []
        await socket.send(job("exit", "0", job_id=NEXT_ID))
        results.append(await result_on(socket))

    async with scripted(refuse, go_on, ours=True) as address, Graders.open("", tmp_path) as graders:
        graders.attach("host1", address, slots=1)
        await until(lambda: results)

    assert results[0]["grading_job_id"] == NEXT_ID


async def test_a_job_goes_on_while_the_grader_is_disconnected_and_stopping(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    cut_off = asyncio.Event()

    async def cut(socket: ServerConnection) -> None:
        await socket.send(job("sleep", "2"))
        await until(lambda: started)
        socket.transport.abort()
        cut_off.set()

    async def listen(socket: ServerConnection) -> None:
        assert registration(socket)["running"] == [JOB_ID]
        results.append(await result_on(socket))
        await socket.wait_closed()

    async with scripted(cut, listen, ours=True) as address, Graders.open("", tmp_path) as graders:
        started = graders.attach("host1", address, slots=1, drain_timeout=30).started
        await cut_off.wait()
        await graders.stop("host1")

    assert [result["success"] for result in results] == [True]
    assert len(started) == 1


async def test_a_new_job_replaces_an_obsolete_one(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []

    async def replace_the_job(socket: ServerConnection) -> None:
        await socket.send(job("hang"))
        await until(lambda: containers.started)
        await socket.send(job("exit", "0", job_id=NEXT_ID))
        results.append(await result_on(socket))

    async with scripted(replace_the_job, ours=True) as address, Graders.open("", tmp_path) as graders:
        containers = graders.attach("host1", address, slots=1)
        await until(lambda: results)

    assert [result["grading_job_id"] for result in results] == [NEXT_ID]


@pytest.mark.parametrize("ours", [True, False])
async def test_the_pool_is_named_to_servers_that_know_pools(tmp_path: Path, *, ours: bool) -> None:
    paths: list[str] = []

    async def listen(socket: ServerConnection) -> None:
        assert socket.request
        paths.append(socket.request.path)
        await socket.wait_closed()

    async with scripted(listen, ours=ours) as address, Graders.open("", tmp_path) as graders:
        graders.attach("host1", address, slots=1)
        await until(lambda: paths)

    path, _, query = paths[0].partition("?")
    assert path == "/api/v1/worker_ws/host1"
    assert dict(parse_qsl(query)) == (
        {"pool": "default", "runtime": "default", "abilities": ",".join(ABILITIES)} if ours else {}
    )


ODD_ANSWERS = [
    Response(status_code=502),
    PlainTextResponse("<html>a proxy's page</html>"),
    RedirectResponse("https://elsewhere.example/"),
    JSONResponse({"status": "success", "data": {"grading_job_id": JOB_ID, "stages": "none"}}),
]


async def test_odd_answers_to_polls_and_results_lose_nothing(tmp_path: Path) -> None:
    taken: list[dict[str, Any]] = []
    to_polls = [*ODD_ANSWERS, JSONResponse({"data": json.loads(job("exit", "0"))})]
    to_results = [ODD_ANSWERS[0], ODD_ANSWERS[2]]

    async def register(_: Request) -> Response:
        return JSONResponse({"status": "success", "data": {"heartbeat": 60}})

    async def poll(_: Request) -> Response:
        return to_polls.pop(0) if to_polls else JSONResponse({}, 498)

    async def report(request: Request) -> Response:
        if to_results:
            return to_results.pop(0)
        taken.append(await request.json())
        return JSONResponse({"status": "success", "data": None})

    path = "/api/v1/grading_job/{id}"
    routes = [
        Route("/api/v1/worker/{id}", register, methods=["POST"]),
        Route(path, poll, methods=["GET"]),
        Route(path, report, methods=["POST"]),
    ]
    async with http_server(Starlette(routes=routes)) as address, Graders.open("", tmp_path) as graders:
        graders.attach("host1", address, slots=1)
        await until(lambda: taken)
        await until(lambda: not spooled(tmp_path))

    assert [result["grading_job_id"] for result in taken] == [JOB_ID]


@contextlib.asynccontextmanager
async def http_server(app: Starlette) -> AsyncIterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task

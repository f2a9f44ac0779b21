"""Clients that misbehave on the wire: the server keeps serving the other ones, and disconnects these."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest
import websockets
from compat.protocol import Places
from harness import PATIENCE, Client, Place, free_port, stage, until
from processes import processes

COURSE = "cs241"
STAFF = "staff-241"
CLUSTER_TOKEN = "cluster-token"
CLUSTER = {"Authorization": f"Bearer {CLUSTER_TOKEN}"}
MANY = 50
MAX_FRAME = 10 * 1024 * 1024
LARGE = {f"LARGE{number}": "x" * 125_000 for number in range(8)}


@dataclass
class Server:
    """The API as a process, and raw connections to it."""

    client: Client
    port: int
    stack: contextlib.AsyncExitStack

    async def open(self, *pieces: bytes, limit: int = 2**16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        self.stack.callback(writer.close)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return reader, writer

    async def upgrade(self, name: str) -> asyncio.StreamReader:
        """Open a grader's connection that registers, and sends and answers nothing afterwards."""
        lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        reader, writer = await self.open(
            head(f"worker_ws/{name}", *lines, method="GET", token=CLUSTER_TOKEN), limit=1024
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_text_frame({"type": "register", "args": {"hostname": name}}))
        return reader

    async def serves_others(self) -> None:
        """Assert that a read and a submission succeed within the timeout."""
        async with asyncio.timeout(PATIENCE):
            assert (await self.client.get(f"queue/{COURSE}/length", token=STAFF)).status_code == httpx2.codes.OK
            await self.client.register(COURSE, "honest", students=[stage("exit", "0")])
            await self.client.submit(COURSE, "honest", students=1)

    async def is_alive(self, hostname: str) -> bool:
        answer = await self.client.get(f"worker/{COURSE}/all", token=STAFF)
        (alive,) = [w["alive"] for w in answer.json()["data"]["worker_nodes"] if w["hostname"] == hostname]
        return bool(alive)


@contextlib.asynccontextmanager
async def serving(place: Place, directory: Path) -> AsyncIterator[Server]:
    courses = directory / "courses.json"
    courses.write_text(json.dumps({COURSE: {"tokens": [STAFF]}}))
    port = str(free_port())
    flags = ["--token", "cluster-token", "--original-graders", "default", "--bind-addr", "127.0.0.1"]
    flags += ["--bind-port", port, "--course-config", str(courses)]
    flags += ["--heartbeat-interval", "1", "--reconcile-interval", "0.5"]
    async with processes(directory / "processes", place.environment) as started, contextlib.AsyncExitStack() as stack:
        await started.service("api", *flags)
        client = await stack.enter_async_context(Client.connect(f"http://127.0.0.1:{port}"))
        await until(client.is_ready)
        yield Server(client, int(port), stack)


@pytest.fixture(scope="module")
async def shared(places: Places, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with places() as place, serving(place, tmp_path_factory.mktemp("shared")) as opened:
        yield opened


@pytest.fixture
async def server(shared: Server) -> AsyncIterator[Server]:
    """The API that these tests share, on which other tests have left jobs."""
    async with contextlib.AsyncExitStack() as stack:
        yield replace(shared, stack=stack)


@pytest.fixture
async def own(place: Place, tmp_path: Path) -> AsyncIterator[Server]:
    """An API without jobs, for tests of the graders that get them."""
    async with serving(place, tmp_path) as opened:
        yield opened


def head(path: str, *lines: str, token: str = STAFF, method: str = "POST") -> bytes:
    fixed = [f"{method} /api/v1/{path} HTTP/1.1", "Host: broadway", f"Authorization: Bearer {token}"]
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


async def test_unfinished_bodies_do_not_block_other_clients(server: Server) -> None:
    opening = head(f"grading_run/{COURSE}/mp1", "Content-Length: 1000000")
    for _ in range(MANY):
        await server.open(opening, b'{"students_env": [')

    await server.serves_others()


async def test_unfinished_heads_do_not_block_other_clients(server: Server) -> None:
    for _ in range(MANY):
        await server.open(b"GET /api/v1/queue/cs241/length HTTP/1.1\r\nX-Slow: ")

    await server.serves_others()


async def test_silent_connections_do_not_block_other_clients(server: Server) -> None:
    for _ in range(MANY):
        await server.open()

    await server.serves_others()


async def test_a_client_that_reads_no_answers_does_not_block_other_clients(server: Server) -> None:
    await server.client.register(COURSE, "mp1", students=[stage("exit", "0", env=LARGE)])
    request = head(f"grading_config/{COURSE}/mp1", method="GET")
    for _ in range(5):
        await server.open(*[request] * 20, limit=1)

    await server.serves_others()


async def test_clients_that_disconnect_early_do_not_block_other_clients(server: Server) -> None:
    for opening in (
        head(f"grading_run/{COURSE}/mp1", "Content-Length: 1000") + b"{",
        head(f"queue/{COURSE}/length", method="GET"),
        b"GET /",
        head("worker_ws/w1", "Upgrade: websocket", "Connection: Upgrade", method="GET", token=CLUSTER_TOKEN),
    ):
        _, writer = await server.open(opening)
        writer.transport.abort()

    await server.serves_others()


async def test_a_frame_over_the_limit_closes_that_connection_only(own: Server) -> None:
    url = f"ws://127.0.0.1:{own.port}/api/v1/worker_ws"
    async with (
        websockets.connect(f"{url}/greedy", additional_headers=CLUSTER) as greedy,
        websockets.connect(f"{url}/honest", additional_headers=CLUSTER, ping_interval=0.3) as honest,
    ):
        await honest.send(json.dumps({"type": "register", "args": {"hostname": "honest"}}))
        assert json.loads(await honest.recv()) == {"success": True}
        with contextlib.suppress(websockets.ConnectionClosed):
            await greedy.send("x" * (MAX_FRAME + 1))
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await greedy.recv()

        assert closed.value.rcvd
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1009, "message too big")
        await own.serves_others()
        assert json.loads(await honest.recv())["stages"]


async def test_a_frame_up_to_the_limit_is_read(own: Server) -> None:
    url = f"ws://127.0.0.1:{own.port}/api/v1/worker_ws/large"
    async with websockets.connect(url, additional_headers=CLUSTER) as large:
        await large.send(json.dumps({"type": "register", "args": {"hostname": "h"}}))
        assert json.loads(await large.recv()) == {"success": True}
        result = {"grading_job_id": "0" * 24, "success": True, "results": [], "logs": {"stdout": ""}}
        message = json.dumps({"type": "job_result", "args": result})
        await large.send(message.replace('""', f'"{"x" * (MAX_FRAME - len(message))}"'))

        with pytest.raises(websockets.ConnectionClosed) as closed:
            await large.recv()
        assert closed.value.rcvd
        assert closed.value.rcvd.reason == "job with the given ID not found", "it was read"


async def test_a_grader_that_vanishes_is_found_dead_and_its_job_waits_again(own: Server) -> None:
    """A half-open connection: the server receives nothing more, not even its end."""
    reader = await own.upgrade("cut-off")
    await reader.readuntil(b'{"success": true}')
    await own.client.register(COURSE, "mp1", students=[stage("exit", "0")])
    await own.client.submit(COURSE, "mp1", students=1)
    await reader.readuntil(b'"stages"')

    await own.serves_others()

    async def is_found_dead() -> bool:
        return not await own.is_alive("cut-off")

    await until(is_found_dead)

    async def waits_again() -> bool:
        answer = await own.client.http.get("/api/v1/grading_job/next", headers=CLUSTER)
        return answer.status_code == httpx2.codes.OK

    await own.client.http.post("/api/v1/worker/next", json={"hostname": "next"}, headers=CLUSTER)
    await until(waits_again)


async def test_a_grader_that_reads_nothing_does_not_block_other_clients(own: Server) -> None:
    await own.client.register(COURSE, "large", students=[stage("exit", "0", env=LARGE)] * 8)
    await own.upgrade("deaf")
    await own.client.submit(COURSE, "large", students=1)

    await own.serves_others()

    async def is_found_dead() -> bool:
        return not await own.is_alive("deaf")

    await until(is_found_dead)


def _text_frame(message: object) -> bytes:
    """A masked text frame, with a mask of zeros."""
    text = json.dumps(message).encode()
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text

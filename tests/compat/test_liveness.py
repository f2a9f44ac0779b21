"""Section 10 of the reference: the workers that count as dead, with a heartbeat interval of one second.

Several workers with different behavior register; once the silent ones are dead, each test checks one of them.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Self

import pytest
import websockets
from compat.protocol import (
    CLUSTER_TOKEN,
    COURSE,
    FINISHED,
    JOB_FAILED,
    NO_LOG,
    NOT_STARTED,
    Places,
    Poller,
    Server,
    Socket,
    is_refused,
    serving,
)
from harness import IS_WHOLE, PATIENCE, stage, token_of, until

INTERVAL = 1
IMPATIENT = ("--heartbeat-interval", str(INTERVAL), "--max-attempts", "1", "--reconcile-interval", "0.5")
EARLIEST, LATEST = 2 * INTERVAL, 3 * INTERVAL
LENIENCE = 3 if IS_WHOLE else PATIENCE  # seconds beyond the latest time, for a busy machine

TEXT, CLOSE = 0x81, 0x88
UPGRADE = f"""GET /api/v1/worker_ws/mute HTTP/1.1
Host: 127.0.0.1
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Authorization: Bearer {CLUSTER_TOKEN}

""".replace("\n", "\r\n")


@dataclass
class Mute:
    """A WebSocket worker that registers, and afterwards sends and answers nothing, not even a close."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    @contextlib.asynccontextmanager
    async def register(cls, server: Server) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        text = json.dumps({"type": "register", "args": {"hostname": "mute.example"}}).encode()
        writer.write(UPGRADE.encode())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes([TEXT, 0x80 | len(text), 0, 0, 0, 0]) + text)  # with a mask of zeros
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def frame(self) -> tuple[int, bytes]:
        """Return the next frame's first byte, and its content."""
        async with asyncio.timeout(PATIENCE):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2))
            return first, await self.reader.readexactly(length)


@dataclass
class Aftermath:
    """The workers after all deaths; ``died`` has the seconds between a worker's last sign of life and its death."""

    server: Server
    mute: Mute
    silent: Poller
    pinging_lived: bool
    steady_lived: bool
    ponging: tuple[int | None, str | None]
    jobs: dict[str, str]
    runs: dict[str, str]
    died: dict[str, float]

    def revived(self, name: str) -> Poller:
        """Return a polling grader with the name of a dead worker."""
        return Poller(self.server, name)


SILENT = ["silent", "mute", "ponging", "idle", "beating-late", "polling-late", "moving", "changing"]


async def wait_for_deaths(server: Server, seen: dict[str, float]) -> dict[str, float]:
    """Poll until all silent workers are dead, and return the seconds that each took."""
    died: dict[str, float] = {}

    async def are_all_dead() -> bool:
        for name in set(seen) - set(died):
            if not (await server.worker(name))["alive"]:
                died[name] = time.monotonic() - seen[name]
        return len(died) == len(seen)

    await until(are_all_dead)
    return died


@contextlib.asynccontextmanager
async def repeating(sign_of_life: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            await sign_of_life()
            await asyncio.sleep(INTERVAL / 4)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(repeat())
        yield
        task.cancel()


async def run_until_the_silent_are_dead(server: Server, mute: Mute, seen: dict[str, float]) -> Aftermath:
    """Run all workers until the silent ones are dead; ``seen`` has the time before the mute worker's registration."""
    await server.client.register(COURSE, "mp1", students=[stage()])
    assert await mute.frame() == (TEXT, b'{"success": true}')
    runs = {"mute": await server.client.submit(COURSE, "mp1", students=1)}
    first, job = await mute.frame()
    assert first == TEXT
    jobs = {"mute": json.loads(job)["grading_job_id"]}
    steady = await server.poller("steady")
    for name in SILENT[3:]:
        seen[name] = time.monotonic()
        await server.poller(name)
    silent = await server.poller("silent")
    runs["silent"] = await server.client.submit(COURSE, "mp1", students=1)
    seen["silent"] = time.monotonic()
    jobs["silent"] = (await silent.take())["grading_job_id"]
    seen["ponging"] = time.monotonic()
    async with (
        Socket.join(server, "ponging", ping_interval=None) as ponging,
        Socket.join(server, "pinging", ping_interval=INTERVAL / 4),
        Socket.open(server, "idle", ping_interval=INTERVAL / 4),  # and never registers
        repeating(steady.beat),
        repeating(lambda: pong(ponging)),
    ):
        died = await wait_for_deaths(server, seen)
        pinging_lived, steady_lived = [(await server.worker(name))["alive"] for name in ("pinging", "steady")]
        closing = await ponging.closing()
    return Aftermath(server, mute, silent, pinging_lived, steady_lived, closing, jobs, runs, died)


async def pong(socket: Socket) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        await socket.connection.pong()


@pytest.fixture(scope="module")
async def aftermath(places: Places, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Aftermath]:
    async with places() as place, serving(place, tmp_path_factory.mktemp("liveness"), *IMPATIENT) as server:
        before = time.monotonic()
        async with Mute.register(server) as mute:
            yield await run_until_the_silent_are_dead(server, mute, {"mute": before})


@pytest.mark.parametrize("name", SILENT)
async def test_a_silent_worker_dies_after_two_to_three_intervals(aftermath: Aftermath, name: str) -> None:
    """``ponging``: on a WebSocket, only pings are heartbeats. ``idle``: pings of unregistered connections are not."""
    assert EARLIEST <= aftermath.died[name] <= LATEST + LENIENCE


async def test_heartbeats_keep_a_polling_worker_alive(aftermath: Aftermath) -> None:
    assert aftermath.steady_lived


async def test_pings_keep_a_websocket_worker_alive(aftermath: Aftermath) -> None:
    assert aftermath.pinging_lived


@pytest.mark.parametrize("name", ["silent", "mute"])
async def test_a_dead_workers_job_fails(aftermath: Aftermath, name: str) -> None:
    """Section 7: the job is never retried, and has no log (3.6)."""
    job_id = aftermath.jobs[name]
    await aftermath.server.turns(aftermath.runs[name], FINISHED)

    assert await aftermath.server.jobs(aftermath.runs[name]) == {job_id: JOB_FAILED}
    log = await aftermath.server.client.get(f"grading_job_log/{COURSE}/{job_id}", token=token_of(COURSE))
    assert is_refused(log, 400, NO_LOG)
    worker = await aftermath.server.worker(name)
    assert (worker["busy"], worker["jobs_processed"]) == (False, 1)


async def test_a_worker_that_dies_idle_stays_listed_as_dead(aftermath: Aftermath) -> None:
    assert await aftermath.server.worker("idle") == {
        "hostname": "idle.example",
        "jobs_processed": 0,
        "busy": False,
        "alive": False,
    }


async def test_a_silent_socket_is_closed_without_a_code(aftermath: Aftermath) -> None:
    """The server sent nothing else before the close, not even a ping."""
    assert await aftermath.mute.frame() == (CLOSE, b"")
    assert aftermath.ponging == (1005, "")


async def test_the_end_of_an_old_connection_does_not_end_the_new_one(aftermath: Aftermath) -> None:
    """Bug 13: the end of the old connection marked the new session as dead."""
    async with Socket.join(aftermath.server, "mute", ping_interval=INTERVAL / 4) as socket:
        aftermath.mute.writer.transport.abort()
        run_id = await aftermath.server.client.submit(COURSE, "mp1", students=1)
        job = await socket.hear()
        assert await socket.hears_nothing()
        assert (await aftermath.server.worker("mute"))["alive"]
        await socket.report(job)
        await aftermath.server.turns(run_id, FINISHED)


async def test_a_dead_workers_result_is_too_late(aftermath: Aftermath) -> None:
    """The worker is still known; the refusal is about the job."""
    await aftermath.server.turns(aftermath.runs["silent"], FINISHED)

    assert is_refused(await aftermath.silent.report(aftermath.jobs["silent"]), 400, NOT_STARTED)


async def test_a_heartbeat_revives_a_dead_worker(aftermath: Aftermath) -> None:
    assert (await aftermath.revived("beating-late").beat()).status_code == 200
    assert (await aftermath.server.worker("beating-late"))["alive"]


async def test_a_poll_revives_a_dead_worker(aftermath: Aftermath) -> None:
    run_id = await aftermath.server.client.submit(COURSE, "mp1", students=1)
    await aftermath.revived("polling-late").grade()

    assert (await aftermath.server.worker("polling-late"))["alive"]
    assert await aftermath.server.state(run_id) == FINISHED


async def test_registering_again_counts_as_a_heartbeat_and_updates_the_host(aftermath: Aftermath) -> None:
    """Bug 12: neither was updated, so that the next check for silent workers ended the worker again."""
    again = time.monotonic()
    await aftermath.revived("moving").register({"hostname": "moved.example"})

    died = await wait_for_deaths(aftermath.server, {"moved": again})
    assert died["moved"] >= EARLIEST


async def test_a_polling_worker_may_come_back_over_websocket(aftermath: Aftermath) -> None:
    """Bug 12: such a worker never got a job."""
    async with Socket.join(aftermath.server, "changing", ping_interval=INTERVAL / 4) as socket:
        run_id = await aftermath.server.client.submit(COURSE, "mp1", students=1)
        await socket.report(await socket.hear())
        await aftermath.server.turns(run_id, FINISHED)

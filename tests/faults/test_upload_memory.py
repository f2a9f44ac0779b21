"""Uploads of many clients at a time, of which some stall and some vanish: the API's memory stays flat."""

import asyncio
import os
from pathlib import Path

import pytest
from faults.report import Report
from faults.servers import Servers
from faults.world import COURSES, World
from harness import IS_WHOLE, stage, token_of

COURSE = COURSES[0]
MEBIBYTE = 1024 * 1024
SIZE = 20 * MEBIBYTE - 4096
CLIENTS = 20 if IS_WHOLE else 6  # at a time
ROUNDS = 3 if IS_WHOLE else 1
ROOM = 96 * MEBIBYTE  # more than the memory before: buffers of connections, two submissions being stored, the driver
FLAGS = {"ingest": ["--http-spool-size-per-address", str(512 * MEBIBYTE)]}


@pytest.mark.timeout(600)
async def test_memory_stays_flat_while_clients_stall_and_vanish(
    shared: Servers, tmp_path: Path, report: Report
) -> None:
    async with World.open(tmp_path, shared=shared, graders=0, flags=FLAGS) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("exit")]})
        assert await _upload(world, os.urandom(SIZE), "first") == 201
        before = _memory(world, "VmRSS")

        statuses: list[int] = []
        for number in range(ROUNDS):
            statuses += await _round(world, number)
        grown = _memory(world, "VmHWM") - before
        stored = await world.database["submission"].find({}, {"files": 1}).to_list()
        parts = {
            part["_id"]: part["size"] async for part in world.database["blob"].find({"size": {"$gt": 0}}, {"size": 1})
        }

    complete = ROUNDS * (CLIENTS - CLIENTS // 3 - CLIENTS // 3)
    assert statuses == [201] * complete
    assert {(file["sha256"], file["size"]) for each in stored for file in each["files"]} == set(parts.items())
    assert len(stored) == 1 + complete, "nothing of the others is stored"
    report.row(
        "uploads",
        f"{CLIENTS} uploads of 20 MiB at a time, of which a third stall and a third vanish",
        f"the API's memory grew by {grown // MEBIBYTE} MiB",
        "0 half-stored",
    )
    assert grown < ROOM, f"{grown // MEBIBYTE} MiB"


async def _round(world: World, number: int) -> list[int]:
    """Upload from many clients at a time; return the statuses of those that neither stall nor vanish."""
    third = CLIENTS // 3
    stalling = [await _begin(world, os.urandom(SIZE - 100)) for _ in range(third)]
    vanishing = [await _begin(world, os.urandom(SIZE // 2)) for _ in range(third)]
    statuses = await asyncio.gather(
        *(_upload(world, os.urandom(SIZE), f"{number} {client}") for client in range(CLIENTS - 2 * third))
    )
    for writer in (*vanishing, *stalling):
        writer.transport.abort()
    return statuses


async def _upload(world: World, content: bytes, key: str) -> int:
    answer = await world.client.http.post(
        f"/api/v2/courses/{COURSE}/assignments/mp1/submissions?student=ada",
        files={"files": ("main.bin", content)},
        headers={"Authorization": f"Bearer {token_of(COURSE)}", "Idempotency-Key": key},
        timeout=300,
    )
    return answer.status_code


async def _begin(world: World, content: bytes) -> asyncio.StreamWriter:
    """Send a part of an upload, and no more."""
    url = world.client.http.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        f"POST /api/v2/courses/{COURSE}/assignments/mp1/submissions?student=bob HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {token_of(COURSE)}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        f"Content-Length: {SIZE}\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="files"; filename="main.bin"\r\n\r\n'
    )
    writer.write(head.encode() + content[: SIZE - len(head)])
    await writer.drain()
    return writer


def _memory(world: World, kind: str) -> int:
    """Return a number of bytes of the API's process, by its name in the status file of Linux."""
    (role,) = world.of("ingest")
    assert role.process is not None
    lines = Path(f"/proc/{role.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))

"""Bodies: deliveries on disk until their signature is checked, and bounds on what waits in memory and on disk."""

import contextlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex
from typing import Any

from doors import Door, Doors, Line
from harness import until
from pushes import push, signature

SECRET = "a-secret-of-this-hook"
MEBIBYTE = 2**20


def status(answer: str) -> int:
    return int(answer.split(" ", 2)[1])


def delivery(course: str, body: bytes, *, sign: str | None = None, size: int | None = None) -> bytes:
    """Return a push with a signature that is wrong by default; ``size`` is the length that it announces."""
    sign = signature(body, SECRET) if sign is None else sign
    signed = f"X-Hub-Signature-256: {sign}\r\n" if sign else ""
    return (
        f"POST /api/v2/courses/{course}/hooks/git HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"X-GitHub-Event: push\r\nX-GitHub-Delivery: {token_hex(8)}\r\n{signed}"
        f"Content-Length: {len(body) if size is None else size}\r\n\r\n"
    ).encode() + body


WRONG = f"sha256={hmac.new(b'another', b'', 'sha256').hexdigest()}"


@contextlib.asynccontextmanager
async def hooked(doors: Doors, course: str, **settings: Any) -> AsyncIterator[Door]:
    """A service with a hook."""
    async with doors(**settings) as door:
        headers = {"Authorization": f"Bearer staff-{course[2:]}"}
        hook = {"assignment": "mp1", "secrets": [SECRET]}
        put = await door.client.http.put(f"/api/v2/courses/{course}/hooks/git", json=hook, headers=headers)
        assert put.status_code == 200
        yield door


async def test_a_delivery_without_a_signature_is_refused_before_its_body(doors: Doors, course: str) -> None:
    async with hooked(doors, course) as door, door.connected() as line:
        await line.send(delivery(course, b"", sign="", size=30 * MEBIBYTE))
        assert "not signed: expected the header" in await line.answer()


async def test_a_signed_push_of_20_mib_is_taken(doors: Doors, course: str, tmp_path: Path) -> None:
    body = json.dumps({**push("alice"), "commits": [{"message": "x" * 1024}] * (20 * 1024)}).encode()
    assert len(body) > 20 * MEBIBYTE
    async with hooked(doors, course, http={"spool_dir": tmp_path}) as door:
        answer = await door.ask(delivery(course, body))

    assert (status(answer), "alice is not in the roster" in answer) == (422, True)


async def test_an_unsigned_body_is_never_in_memory(doors: Doors, course: str, tmp_path: Path) -> None:
    """The memory for bodies has 1 MiB: a body that is collected before the check would not fit."""
    http = {"spool_dir": tmp_path, "body_memory": MEBIBYTE, "body_memory_per_address": MEBIBYTE}
    async with hooked(doors, course, http=http) as door:
        wrong = await door.ask(delivery(course, b"x" * 5 * MEBIBYTE, sign=WRONG))
        signed = await door.ask(delivery(course, b"x" * 5 * MEBIBYTE))

        assert (status(wrong), "is not the signature of this body" in wrong) == (401, True)
        assert (status(signed), "too many large requests" in signed) == (429, True)
        assert await door.limited("memory") >= 1
    assert list(tmp_path.iterdir()) == []


async def test_deliveries_are_limited_by_address_and_together(doors: Doors, course: str, tmp_path: Path) -> None:
    http = {"spool_dir": tmp_path, "spool_size": 3 * MEBIBYTE, "spool_size_per_address": 2 * MEBIBYTE}
    slow = delivery(course, b"x" * (5 * MEBIBYTE // 4), sign=WRONG, size=30 * MEBIBYTE)
    async with hooked(doors, course, http=http) as door, contextlib.AsyncExitStack() as all_:
        line = await all_.enter_async_context(door.connected("127.0.0.2"))
        await line.send(slow)

        async def refusal(address: str, expected: int) -> bool:
            return status(await door.ask(delivery(course, b"x" * MEBIBYTE, sign=WRONG), address)) == expected

        await until(lambda: door.holds("spool", 5 * MEBIBYTE // 4))
        assert await refusal("127.0.0.2", 429)
        other = await all_.enter_async_context(door.connected("127.0.0.3"))
        await other.send(slow)
        await until(lambda: door.holds("spool", 5 * MEBIBYTE // 2))
        assert await refusal("127.0.0.4", 503)
        answer = await door.ask(delivery(course, b"x" * MEBIBYTE, sign=WRONG), "127.0.0.4")
        assert "retry-after: 5" in answer.lower()

        line.writer.close()
        await until(lambda: refusal("127.0.0.4", 401))


async def test_slow_bodies_share_the_memory_for_bodies(doors: Doors, course: str) -> None:
    def config(size: int, announced: int) -> bytes:
        return (
            f"POST /api/v1/grading_config/{course}/mp1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer staff-{course[2:]}\r\nContent-Length: {announced}\r\n\r\n"
        ).encode() + b" " * size

    half = MEBIBYTE // 2
    http = {"body_memory": 2 * MEBIBYTE, "body_memory_per_address": MEBIBYTE}
    async with doors(http=http) as door, contextlib.AsyncExitStack() as all_:
        lines: list[Line] = []
        for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            lines.append(await all_.enter_async_context(door.connected(address)))
            await lines[-1].send(config(half, 10 * MEBIBYTE))
            await until(lambda: door.holds("memory", half * len(lines)))

        async def refusal(address: str, expected: int) -> bool:
            return status(await door.ask(config(half + 200_000, half + 200_000), address)) == expected

        assert await refusal("127.0.0.2", 429)
        assert await refusal("127.0.0.5", 503)
        for line in lines:
            line.writer.close()
        await until(lambda: refusal("127.0.0.5", 400))  # no JSON


async def test_a_spool_that_takes_nothing_is_an_outage(doors: Doors, course: str, tmp_path: Path) -> None:
    async with hooked(doors, course, http={"spool_dir": tmp_path / "missing"}) as door:
        answer = await door.ask(delivery(course, b"x" * MEBIBYTE))

    assert (status(answer), "the server cannot keep the request's body at the moment" in answer) == (503, True)
    assert "retry-after" in answer.lower()

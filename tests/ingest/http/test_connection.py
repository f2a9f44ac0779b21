"""Connections: limits on heads, on what is sent around bodies, on numbers, and on silence."""

import contextlib
import json

import pytest
from doors import Door, Doors
from harness import until

from broadway.ingest.http import connection, slow_reader
from broadway.ingest.http.connection import MAX_HEAD, MAX_LINES, MAX_PIPELINED

LINE = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
CLOSE = b"Connection: close\r\n"
CHUNKED = (
    b"POST /api/v1/grading_config/%s/mp1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
    b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def status(answer: str) -> int:
    return int(answer.split(" ", 2)[1])


def head_of(size: int) -> bytes:
    start = LINE + CLOSE + b"X: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


async def test_a_head_may_have_64_kib(door: Door) -> None:
    assert status(await door.ask(head_of(MAX_HEAD))) == 200
    assert status(await door.ask(head_of(MAX_HEAD + 1))) == 431


@pytest.mark.parametrize(
    ("endless", "refused"),
    [
        (b"GET /" + b"x" * MAX_HEAD, 414),
        (LINE + b"X: " + b"x" * MAX_HEAD, 431),
        (LINE + b"x" * MAX_HEAD, 431),
        (LINE + b"a:b\r\n" * (MAX_LINES + 1), 431),
        (LINE + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + b"a:b\r\n" * (MAX_LINES + 1), 431),
        (b"x" * MAX_HEAD, 400),
        (b"\r\n" * MAX_HEAD + LINE, 414),
    ],
    ids=["URL", "value", "name", "small lines", "WebSocket", "no HTTP", "line breaks"],
)
async def test_a_head_is_refused_before_its_end(door: Door, endless: bytes, refused: int) -> None:
    answer = await door.ask(endless)

    assert status(answer) == refused
    assert "connection: close" in answer


async def test_a_head_that_comes_in_small_pieces_is_counted_as_a_whole(door: Door) -> None:
    async with door.connected() as line:
        await line.send(LINE)
        for _ in range(MAX_LINES + 1):
            await line.send(b"a:b\r\n")
        assert status(await line.read()) == 431


async def test_each_request_on_a_connection_has_its_own_head(door: Door) -> None:
    large = LINE + b"X: " + b"x" * (MAX_HEAD - 1000) + b"\r\n\r\n"
    async with door.connected() as line:
        for _ in range(3):
            await line.send(large)
            assert status(await line.answer()) == 200


@pytest.mark.parametrize(
    "endless",
    [
        b"1;" + b"x" * 4 * MAX_HEAD,
        b"1\r\nx\r\n" * 10 + b"1;" + b"x" * 4 * MAX_HEAD,
        b"0\r\n" + b"a:b\r\n" * (MAX_LINES + 1),
        b"0\r\nX: " + b"x" * 4 * MAX_HEAD,
    ],
    ids=["extension", "a later extension", "many trailers", "a long trailer"],
)
async def test_what_comes_around_the_content_of_a_body_is_limited(door: Door, course: str, endless: bytes) -> None:
    head = CHUNKED % (course.encode(), f"staff-{course[2:]}".encode())
    async with door.connected() as line:
        await line.send(head)
        await line.send(endless)
        assert status(await line.read()) == 431


async def test_a_body_of_very_small_chunks_is_taken(door: Door, course: str) -> None:
    config = json.dumps({"student_pipeline": [{"image": "a", "env": {"A": "x" * 50_000}}]}).encode()
    head = CHUNKED % (course.encode(), f"staff-{course[2:]}".encode())
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in config)

    assert status(await door.ask(head + chunks + b"0\r\n\r\n")) == 200


async def test_lines_after_a_body_are_no_headers(door: Door, course: str) -> None:
    path, body = f"/api/v1/grading_config/{course}/mp1", b"2\r\n{}\r\n0\r\nAuthorization: Bearer %s\r\n\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()

    answer = await door.ask(head + body % f"staff-{course[2:]}".encode())

    assert (status(answer), "invalid token format" in answer) == (401, True)


async def test_requests_that_wait_on_one_connection_are_limited(door: Door) -> None:
    request = LINE + b"\r\n"

    assert (await door.ask(request * MAX_PIPELINED + LINE + CLOSE + b"\r\n")).count("200 OK") == MAX_PIPELINED + 1
    assert (await door.ask(request * 10 * MAX_PIPELINED)).count("200 OK") <= MAX_PIPELINED + 1


async def test_line_breaks_do_not_keep_a_connection_open(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADERS_WITHIN", 0.3)
    async with door.connected() as line:
        await line.send(LINE + b"\r\n")
        assert status(await line.answer()) == 200
        await line.send(b"\r\n")
        assert await line.read() == ""


async def test_a_body_that_goes_on_after_its_answer_ends_soon(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER", 0.3)
    async with door.connected() as line:
        await line.send(b"POST /api/v2/openapi.json HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert status(await line.answer()) == 405
        assert await line.flood(b"x" * 1000, most=10**9) < 10**9


async def test_a_client_that_reads_no_answers_is_disconnected(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_reader, "CHECK_EVERY", 0.3)
    before = await door.limited("slow")
    async with door.connected(buffer=4096) as line:
        # More than the kernel's buffers take, and no more than may wait on one connection.
        await line.send(b"GET /api/v2/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * (MAX_PIPELINED + 1))

        async def is_cut() -> bool:
            return await door.limited("slow") > before

        await until(is_cut)


async def test_connections_from_one_address_are_limited(doors: Doors) -> None:
    async with (
        doors(http={"connections": 16, "connections_per_address": 8}) as door,
        contextlib.AsyncExitStack() as all_,
    ):
        lines = [await all_.enter_async_context(door.connected("127.0.0.2")) for _ in range(8)]
        for line in lines:
            await line.send(LINE + b"\r\n")
            assert status(await line.answer()) == 200
        refused = await door.ask(b"", "127.0.0.2")
        assert (status(refused), "retry-after: 5" in refused.lower()) == (429, True)
        assert status(await door.ask(LINE + CLOSE + b"\r\n", "127.0.0.3")) == 200

        lines[0].writer.close()

        async def is_let_in() -> bool:
            return status(await door.ask(LINE + CLOSE + b"\r\n", "127.0.0.2")) == 200

        await until(is_let_in)
        assert await door.limited("connections") >= 1


async def test_connections_of_all_addresses_together_are_limited(doors: Doors) -> None:
    async with (
        doors(http={"connections": 16, "connections_per_address": 8}) as door,
        contextlib.AsyncExitStack() as all_,
    ):
        answers = []
        for number in range(16):
            line = await all_.enter_async_context(door.connected(f"127.0.0.{2 + number % 4}"))
            await line.send(LINE + b"\r\n")
            answers.append(status(await line.answer()))
        assert set(answers[:14]) == {200}, "the client of the fixture holds one or two"
        assert answers[-1] == 503


async def test_a_websocket_holds_the_place_of_its_connection(doors: Doors) -> None:
    upgrade = (
        b"GET /api/v1/worker_ws/g1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Authorization: Bearer cluster-token\r\n\r\n"
    )
    async with (
        doors(http={"connections": 16, "connections_per_address": 8}) as door,
        contextlib.AsyncExitStack() as all_,
    ):
        lines = [await all_.enter_async_context(door.connected("127.0.0.2")) for _ in range(8)]
        for line in lines:
            await line.send(upgrade)
            assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert status(await door.ask(b"", "127.0.0.2")) == 429
        for line in lines:
            line.writer.close()

        async def is_let_in() -> bool:
            return status(await door.ask(LINE + CLOSE + b"\r\n", "127.0.0.2")) == 200

        await until(is_let_in)


@pytest.mark.parametrize("line", [b"X: " + b"x" * 10_000, b"Sec-WebSocket-Key: ?"], ids=["long line", "bad key"])
async def test_a_websocket_with_an_invalid_handshake_is_answered_and_closed(door: Door, line: bytes) -> None:
    head = b"GET /api/v1/worker_ws/g1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"

    assert status(await door.ask(head + b"Sec-WebSocket-Version: 13\r\n" + line + b"\r\n\r\n")) == 400


async def test_a_refused_websocket_takes_no_more_data(door: Door) -> None:
    upgrade = (
        b"GET /api/v1/worker_ws/g1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with door.connected() as line:
        await line.send(upgrade)
        await line.reader.readuntil(b"\r\n\r\n")
        assert b"invalid token format" in await line.reader.readuntil(b"format"), "a close frame"
        # A frame of 9 MiB that begins now would be kept until its end.
        await line.send(b"\x82\xff" + (9 * 2**20).to_bytes(8, "big") + b"mask")
        assert await line.flood(b"x" * 65536, most=9 * 2**20) < 9 * 2**20


async def test_a_long_head_counts_as_memory_while_it_is_incomplete(doors: Doors) -> None:
    memory = {"body_memory": 2**20, "body_memory_per_address": 2**20}
    async with doors(http=memory) as door, contextlib.AsyncExitStack() as all_:
        for number in range(2**20 // MAX_HEAD):
            line = await all_.enter_async_context(door.connected(f"127.0.0.{2 + number % 2}"))
            await line.send(LINE + b"X: " + b"x" * 20_000)

        async def is_refused() -> bool:
            return status(await door.ask(LINE + CLOSE + b"X: " + b"x" * 20_000 + b"\r\n\r\n")) == 503

        await until(is_refused)
        assert status(await door.ask(LINE + CLOSE + b"X: " + b"x" * 2000 + b"\r\n\r\n")) == 200

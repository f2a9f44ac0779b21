"""Section 6 of the reference: streams, byte for byte, with graders that poll."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx2
import pytest
from compat.protocol import (
    CORS,
    COURSE,
    NOBODY,
    NOT_FOUND_JOB,
    OTHER_COURSE,
    STREAM,
    Server,
    Socket,
    bearer,
    is_refused,
    query_token_of,
)
from harness import stage, token_of, until


def event(kind: str, data: str) -> bytes:
    return f'event: status_update\ndata: {{"type": "{kind}", "data": {data}}}\n\n'.encode()


def position(number: int) -> bytes:
    return event("position", str(number))


STARTED, FINISHED, FAILED = (event("state", f'"{name}"') for name in ("STARTED", "FINISHED", "FAILED"))


@dataclass
class Stream:
    """A stream, and the bytes read so far."""

    answer: httpx2.Response
    read: bytearray = field(default_factory=bytearray)

    async def follow(self) -> None:
        async for piece in self.answer.aiter_raw():
            self.read += piece

    async def has(self, *expected: bytes) -> None:
        """Return once exactly these events have been read."""
        await until(lambda: len(self.read) >= len(b"".join(expected)))
        assert bytes(self.read) == b"".join(expected)


@dataclass
class Streams:
    server: Server
    stack: contextlib.AsyncExitStack
    group: asyncio.TaskGroup

    async def open(self, job_id: str) -> tuple[Stream, asyncio.Task[None]]:
        """Open a stream and wait for its headers; return it, and a task that ends with it."""
        url, headers = STREAM.at(identity=job_id), bearer(query_token_of(COURSE))
        answer = await self.stack.enter_async_context(self.server.http.stream("GET", url, headers=headers))
        assert answer.status_code == 200
        stream = Stream(answer)
        task = self.group.create_task(stream.follow())
        self.stack.callback(task.cancel)
        return stream, task


@pytest.fixture
async def streams(server: Server) -> AsyncIterator[Streams]:
    async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
        yield Streams(server, stack, group)


async def submit(server: Server, name: str, students: int, course: str = COURSE) -> list[str]:
    await server.client.register(course, name, students=[stage()])
    return list(await server.jobs(await server.client.submit(course, name, students=students), course))


async def test_the_headers_of_a_stream(server: Server, streams: Streams, name: str) -> None:
    (job_id,) = await submit(server, name, 1)
    stream, _ = await streams.open(job_id)

    expected = {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "transfer-encoding": "chunked",
        CORS: "*",
    }
    assert expected.items() <= dict(stream.answer.headers).items()


async def test_a_stream_follows_its_job_to_the_end(server: Server, streams: Streams, name: str) -> None:
    """Nothing is sent at first; each pull sends every waiting job its position."""
    poller = await server.poller(name)
    jobs = await submit(server, name, 3)
    (first, end_of_first), (second, _), (third, end_of_third) = [await streams.open(job) for job in jobs]

    job = await poller.take()
    await first.has(STARTED)
    await second.has(position(0))
    await third.has(position(1))
    await poller.finish(job)
    await first.has(STARTED, FINISHED)
    await end_of_first
    job = await poller.take()
    await second.has(position(0), STARTED)
    await third.has(position(1), position(0))
    await poller.finish(job, success=False)
    await second.has(position(0), STARTED, FAILED)
    job = await poller.take()
    await third.has(position(1), position(0), STARTED)
    await poller.finish(job)
    await end_of_third
    await third.has(position(1), position(0), STARTED, FINISHED)


async def test_a_pull_from_another_courses_queue_sends_the_position_too(
    server: Server, streams: Streams, name: str
) -> None:
    """The position is also sent when it has not changed."""
    poller = await server.poller(name)
    others = await submit(server, name, 1, OTHER_COURSE)
    (_, job_id) = await submit(server, name, 2)
    stream, _ = await streams.open(job_id)
    expected, ahead = [], 1
    for _ in range(3):
        pulled = (await poller.take())["grading_job_id"]
        if pulled == job_id:
            expected.append(STARTED)
            break
        ahead -= pulled not in others
        expected.append(position(ahead))
        await stream.has(*expected)

    await stream.has(*expected)
    assert expected in ([position(1), position(0), STARTED], [position(0), position(0), STARTED])


async def test_all_watchers_of_a_job_get_its_events_from_then_on(server: Server, streams: Streams, name: str) -> None:
    poller = await server.poller(name)
    (job_id,) = await submit(server, name, 1)
    early = [(await streams.open(job_id))[0] for _ in range(2)]
    job = await poller.take()
    for stream in early:
        await stream.has(STARTED)
    late, _ = await streams.open(job_id)
    await poller.finish(job)

    for stream in early:
        await stream.has(STARTED, FINISHED)
    await late.has(FINISHED)


async def test_a_start_over_websocket_is_streamed_and_a_death_is_a_failure(
    server: Server, streams: Streams, name: str
) -> None:
    """Bug 5: ``STARTED`` was not streamed for WebSocket workers."""
    async with contextlib.AsyncExitStack() as stack:
        poller = await server.poller(f"{name}-poller")
        jobs = await submit(server, name, 2)
        stream, end = await streams.open(jobs[1])
        await poller.grade()
        await stream.has(position(0))
        socket = await stack.enter_async_context(Socket.join(server, name))
        await socket.hear()
        await stream.has(position(0), STARTED)
    await end
    await stream.has(position(0), STARTED, FAILED)


# Refusals: ordinary envelopes, with the headers of a stream


async def test_refusals_have_ordinary_envelopes(server: Server) -> None:
    tokens = {"wrong": "invalid token", "a b": "invalid token format"}
    for token, message in tokens.items():
        answer = await server.http.get(STREAM.at(), headers=bearer(token))

        assert is_refused(answer, 401, message)
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("job_id", [NOBODY, "malformed"])
async def test_a_job_that_does_not_exist_has_no_stream(server: Server, job_id: str) -> None:
    """Bug 6: its stream never ended, and neither did that of a finished job."""
    answer = await server.http.get(STREAM.at(identity=job_id), headers=bearer(token_of(COURSE)))

    assert is_refused(answer, 400, f"grading {NOT_FOUND_JOB}")


async def test_another_courses_job_has_no_stream(server: Server, name: str) -> None:
    """Bug 7."""
    (job_id,) = await submit(server, name, 1)

    url = STREAM.at(course=OTHER_COURSE, identity=job_id)
    answer = await server.http.get(url, headers=bearer(token_of(OTHER_COURSE)))

    assert is_refused(answer, 400, f"grading {NOT_FOUND_JOB}")


@pytest.mark.parametrize(("success", "state"), [(True, FINISHED), (False, FAILED)])
async def test_a_finished_jobs_stream_sends_the_last_event_and_ends(
    server: Server, name: str, success: bool, state: bytes
) -> None:
    """Bug 6."""
    (job_id,) = await submit(server, name, 1)
    poller = await server.poller(name)
    await poller.grade(success=success)

    answer = await server.http.get(STREAM.at(identity=job_id), headers=bearer(token_of(COURSE)))

    assert (answer.status_code, answer.content) == (200, state)

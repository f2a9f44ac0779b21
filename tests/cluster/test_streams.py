"""Streams of jobs, byte for byte: for every kind of grader, for many watchers, from several API processes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import httpx2
import pytest
from harness import Client, Cluster, free_port, stage, until
from pollers import Poller

from broadway.ingest import serve as ingest
from broadway.ingest.live import feed, waiting_line
from broadway.ingest.v1 import stream
from broadway.messages.topology import feed_queue
from broadway.service import Stop, instance

STARTED = b'event: status_update\ndata: {"type": "state", "data": "STARTED"}\n\n'
FINISHED = b'event: status_update\ndata: {"type": "state", "data": "FINISHED"}\n\n'
FAILED = b'event: status_update\ndata: {"type": "state", "data": "FAILED"}\n\n'


def position(number: int) -> bytes:
    return b'event: status_update\ndata: {"type": "position", "data": %d}\n\n' % number


def positions(count: int) -> bytes:
    """Return the events of all positions, from the last to the first."""
    return b"".join(map(position, reversed(range(count))))


@dataclass
class Stream:
    """A stream that is being read."""

    answer: httpx2.Response
    read: bytearray = field(default_factory=bytearray)
    is_over: bool = False

    async def follow(self) -> None:
        async for piece in self.answer.aiter_raw():
            self.read += piece
        self.is_over = True

    def has(self, expected: bytes) -> Callable[[], bool]:
        return lambda: bytes(self.read) == expected


@dataclass
class Streams:
    """Streams that are open until the test ends."""

    stack: contextlib.AsyncExitStack
    group: asyncio.TaskGroup

    async def open(self, client: Client, job_id: str, *, course: str = "cs241", token: str = "query-241") -> Stream:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self.stack.enter_async_context(
            client.http.stream("GET", f"/api/v1/stream/{course}/{job_id}", headers=headers)
        )
        assert answer.status_code == httpx2.codes.OK, await answer.aread()
        opened = Stream(answer)
        following = self.group.create_task(opened.follow())
        self.stack.callback(following.cancel)
        return opened

    async def grader(self, client: Client) -> Poller:
        """Register a polling grader that sends heartbeats until the streams end."""
        poller = Poller(client.http, "poller")
        await poller.register()
        self.stack.callback(self.group.create_task(poller.beat_on()).cancel)
        return poller


@pytest.fixture
async def streams() -> AsyncIterator[Streams]:
    async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
        yield Streams(stack, group)


async def job_ids(client: Client, run_id: str) -> list[str]:
    return list((await client.status("cs241", run_id))["student_jobs_state"])


async def test_a_stream_reports_positions_the_start_and_the_end(cluster: Cluster, streams: Streams) -> None:
    grader = await streams.grader(cluster.client)
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    jobs = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=3))
    opened = [await streams.open(cluster.client, job) for job in jobs]

    assert (
        dict(opened[0].answer.headers).items()
        >= {
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
            "access-control-allow-origin": "*",
            "transfer-encoding": "chunked",
        }.items()
    )
    for number, job in enumerate(jobs):
        polled = await grader.poll()
        assert polled
        assert polled["grading_job_id"] == job
        waiting = [b"".join(position(n - before) for before in range(1, number + 2)) for n in range(3)]
        for later in range(number + 1, 3):
            await until(opened[later].has(waiting[later]))
        await until(opened[number].has(positions(number) + STARTED))
    for number, job in enumerate(jobs):
        await grader.report(job, success=number != 1)
        ending = FAILED if number == 1 else FINISHED
        await until(opened[number].has(positions(number) + STARTED + ending))
        await until(lambda number=number: opened[number].is_over)


async def test_all_watchers_of_a_job_get_the_events_of_native_graders_too(cluster: Cluster, streams: Streams) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "1")])
    (job,) = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=1))
    opened = [await streams.open(cluster.client, job) for _ in range(5)]
    cluster.graders.start("native")

    for each in opened:
        await until(each.has(STARTED + FAILED))
        await until(lambda each=each: each.is_over)


async def test_a_pull_from_another_courses_queue_repeats_the_position(cluster: Cluster, streams: Streams) -> None:
    grader = await streams.grader(cluster.client)
    for course in ("cs101", "cs241"):
        await cluster.client.register(course, "mp1", students=[stage("exit", "0")])
    await cluster.client.submit("cs101", "mp1", students=2)
    assert await grader.poll()
    jobs = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=3))
    opened = await streams.open(cluster.client, jobs[2])
    while b"STARTED" not in opened.read:
        known = len(opened.read)
        await grader.poll()
        await until(lambda known=known: len(opened.read) > known)

    events = [json.loads(each.removeprefix(b"data: ")) for each in bytes(opened.read).split(b"\n") if b"data" in each]
    places = [event["data"] for event in events if event["type"] == "position"]
    assert places == [2, 1, 0], "the first was told when the other course's job was taken"


async def test_a_new_job_ahead_changes_the_position(
    cluster: Cluster, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    lined_up = set()
    add = waiting_line.WaitingLine.add

    def note(self: waiting_line.WaitingLine, keys: Iterable[waiting_line.WaitingKey]) -> None:
        added = list(keys)
        add(self, added)
        lined_up.update(job_id for *_, job_id in added)

    monkeypatch.setattr(waiting_line.WaitingLine, "add", note)
    grader = await streams.grader(cluster.client)
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    # Two jobs are dispatched at once, one for the grader's only slot and one behind it; the third can be overtaken.
    first = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=3))
    opened = await streams.open(cluster.client, first[2])
    (single,) = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=1))

    await until(lambda: single in lined_up)
    position_now = await cluster.client.get(f"queue/cs241/{first[2]}/position", token="query-241")
    assert position_now.json()["data"]["position"] == 3
    taken = [await grader.poll() for _ in range(3)]

    assert {job["grading_job_id"] for job in taken if job} == {*first[:2], single}
    await until(lambda: opened.read.endswith(position(0)))
    assert opened.read.startswith(position(2)), "positions between may be left out on a busy machine"


async def test_a_job_that_is_over_ends_its_stream_at_once(cluster: Cluster, streams: Streams) -> None:
    cluster.graders.start("native")
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    run = await cluster.client.finished("cs241", run_id)

    opened = await streams.open(cluster.client, run["jobs"][0]["id"])

    await until(opened.has(FINISHED))
    await until(lambda: opened.is_over)


async def test_a_start_before_the_stream_is_not_reported_again(
    cluster: Cluster, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "CHECK_INTERVAL", 0.2)
    grader = await streams.grader(cluster.client)
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    (job,) = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=1))
    await grader.poll()
    opened = await streams.open(cluster.client, job)
    await grader.post("heartbeat")

    await grader.report(job)

    await until(lambda: opened.is_over)
    assert bytes(opened.read) == FINISHED


async def test_watchers_of_a_retried_job_see_one_start(cluster: Cluster, streams: Streams) -> None:
    grader = await streams.grader(cluster.client)
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    (job,) = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=1))
    opened = await streams.open(cluster.client, job)
    await grader.poll()
    crash = {"stdout": "the container crashed", "stderr": ""}
    await grader.report(job, success=False, results=[{"success": False}], logs=crash)
    cluster.graders.start("native")

    await until(lambda: opened.is_over)
    assert bytes(opened.read) == STARTED + FINISHED


async def test_the_queue_of_events_exists_while_jobs_are_watched(
    own_cluster: Cluster, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "UNWATCHED", 0.05)
    monkeypatch.setattr(feed, "EVENT_LAG", timedelta(seconds=0.05))
    queue = feed_queue(f"{instance('ingest')}:{own_cluster.settings.bind_port}")
    assert not await own_cluster.opened.rabbit.is_taken(queue)
    await own_cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    (job,) = await job_ids(own_cluster.client, await own_cluster.client.submit("cs241", "mp1", students=1))

    opened = await streams.open(own_cluster.client, job)
    assert await own_cluster.opened.rabbit.is_taken(queue)
    own_cluster.graders.start("native")
    await until(opened.has(STARTED + FINISHED))

    async def is_gone() -> bool:
        return not await own_cluster.opened.rabbit.is_taken(queue)

    await until(is_gone)


@pytest.mark.parametrize(
    ("course", "token", "status", "message"),
    [
        ("cs241", "staff-101", 401, "invalid token"),
        ("nowhere", "query-241", 401, "course not found"),
        ("cs101", "query-101", 400, "grading job with the given ID not found"),
        ("cs241", "query-241", 200, None),
    ],
)
async def test_refusals_are_ordinary_answers(
    cluster: Cluster, course: str, token: str, status: int, message: str | None
) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    (job,) = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=1))
    headers = {"Authorization": f"Bearer {token}"}

    async with cluster.client.http.stream("GET", f"/api/v1/stream/{course}/{job}", headers=headers) as answer:
        assert answer.status_code == status
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        if message:
            await answer.aread()
            assert answer.json() == {"status": "fail", "data": {"message": message}}
    unknown = await cluster.client.get(f"stream/cs241/{'0' * 24}", token="query-241")
    assert (unknown.status_code, unknown.json()["data"]["message"]) == (400, "grading job with the given ID not found")


async def test_preflights_start_no_stream(cluster: Cluster) -> None:
    answer = await cluster.client.http.options("/api/v1/stream/cs241/anything")

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Headers"].startswith("Authorization")
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-cache", "no")


async def test_comments_keep_a_stream_alive(
    cluster: Cluster, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE", 0.05)
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    (job,) = await job_ids(cluster.client, await cluster.client.submit("cs241", "mp1", students=1))
    opened = await streams.open(cluster.client, job)

    await until(lambda: bytes(opened.read).startswith(b":\n\n" * 3))


async def test_several_api_processes_stream_the_same_events(cluster: Cluster, streams: Streams) -> None:
    settings = cluster.settings.model_copy(update={"bind_port": free_port(), "course_config": None})
    stop = Stop()
    serving = ingest.serve(settings, store=cluster.opened.store, rabbit=cluster.opened.rabbit, stop=stop)
    streams.group.create_task(serving)
    streams.stack.callback(stop.set)
    client = await streams.stack.enter_async_context(Client.connect(f"http://127.0.0.1:{settings.bind_port}"))
    await until(client.is_ready)
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    (job,) = await job_ids(client, await client.submit("cs241", "mp1", students=1))
    opened = [await streams.open(each, job) for each in (cluster.client, client)]

    cluster.graders.start("native")

    for each in opened:
        await until(each.has(STARTED + FINISHED))
        await until(lambda each=each: each.is_over)

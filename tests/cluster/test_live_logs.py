"""Live logs from a grader to their readers: each line once or a visible gap, and nothing without readers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aio_pika
import httpx2
import pytest
from fake_containers import FakeContainers
from harness import Client, Cluster, broadway, free_port, stage, until
from pollers import Poller

from broadway.domain.access import AccessToken, SecretPrefix, TokenKind, digest, new_secret, token_id
from broadway.ingest import serve as ingest
from broadway.messages.topology import LOGS
from broadway.runtime.cancellation import end
from broadway.service import Stop

STAFF = "staff-241"


async def nothing() -> AsyncIterator[httpx2.ServerSentEvent]:
    """Yield no event."""
    return
    yield


@dataclass
class Follower:
    """A reader of a job's live log."""

    client: Client
    job: str
    token: str = STAFF
    after: str = ""
    events: list[tuple[str, Any]] = field(default_factory=list)
    is_over: bool = False
    status: int = 0

    async def follow(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}", **({"Last-Event-ID": self.after} if self.after else {})}
        path = f"/api/v2/courses/cs241/jobs/{self.job}/log/stream"
        try:
            async with self.client.http.stream("GET", path, headers=headers) as answer:
                self.status = answer.status_code
                async for event in httpx2.EventSource(answer) if answer.is_success else nothing():
                    if event.data:  # not the pause before a reconnect
                        self.after = event.id
                        self.events.append((event.event, event.json()))
        except httpx2.TransportError:
            pass  # the server has ended
        self.is_over = True

    @property
    def texts(self) -> list[str]:
        return [line["text"] for name, data in self.events if name == "lines" for line in data["lines"]]

    @property
    def names(self) -> list[str]:
        """The events' names, without the places of a job that waits, as it may for a moment."""
        return [name for name, _ in self.events if name != "queue"]

    def data(self, name: str) -> list[Any]:
        return [data for each, data in self.events if each == name]


@dataclass
class Readers:
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def open(self, client: Client, job: str, *, token: str = STAFF, after: str = "") -> Follower:
        follower = Follower(client, job, token, after)
        self.tasks.append(asyncio.create_task(follower.follow()))
        return follower

    async def leave(self) -> None:
        """Disconnect the last reader."""
        self.tasks[-1].cancel()
        await asyncio.wait({self.tasks[-1]})


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    opened = Readers()
    yield opened
    await end(*opened.tasks)


async def started(cluster: Cluster, *stages: dict[str, Any], student: str = "") -> str:
    """Submit a job, and return its id."""
    env = {"BROADWAY_STUDENT": student} if student else {}
    await cluster.client.register("cs241", "mp1", students=[{**each, "env": env} for each in stages])
    run = await cluster.client.submit("cs241", "mp1", students=1)
    job: str = (await cluster.client.jobs("cs241", run))[0]["id"]
    return job


async def student_token(cluster: Cluster, student: str) -> str:
    secret = new_secret(SecretPrefix.STUDENT)
    about = {"name": "laptop", "course": "cs241", "student": student}
    token = AccessToken(token_id(secret), TokenKind.STUDENT, digest(secret), datetime.now(UTC), **about)
    await cluster.opened.store.access_tokens.add(token)
    return secret


def say(engine: FakeContainers, *lines: str) -> None:
    engine.pipe.put_nowait("".join(f"{line}\n" for line in lines))


def finish(engine: FakeContainers) -> None:
    engine.pipe.put_nowait(None)


async def stored(cluster: Cluster, job: str, token: str = STAFF) -> list[str]:
    answer = await cluster.client.get(f"courses/cs241/jobs/{job}/log", token=token, version="v2")
    assert answer.status_code == httpx2.codes.OK, answer.text
    return [line["text"] for line in answer.json()["lines"]]


async def test_a_reader_gets_the_backlog_then_each_line_and_the_end(cluster: Cluster, readers: Readers) -> None:
    engine = cluster.graders.start("native")
    job = await started(cluster, stage("pipe"), stage("pipe"))
    early = readers.open(cluster.client, job)
    say(engine, "one", "two")
    await until(lambda: early.texts == ["one", "two"])
    late = readers.open(cluster.client, job)
    await until(lambda: late.texts == ["one", "two"])
    finish(engine)
    say(engine, "three")
    await until(lambda: late.texts == ["one", "two", "three"])
    finish(engine)

    for reader in (early, late):
        await until(lambda reader=reader: reader.is_over)
        assert reader.texts == ["one", "two", "three"] == await stored(cluster, job)
        assert reader.names[-1] == "end"
        assert set(reader.names) == {"attempt", "stage", "lines", "end"}
        assert reader.data("end") == [{"attempt": 1, "outcome": "succeeded"}]
    assert [line["stream"] for line in early.data("lines")[0]["lines"]] == ["stdout", "stdout"]


async def test_a_reader_that_comes_back_gets_each_line_once(cluster: Cluster, readers: Readers) -> None:
    engine = cluster.graders.start("native")
    job = await started(cluster, stage("pipe"))
    first = readers.open(cluster.client, job)
    say(engine, "one", "two")
    await until(lambda: first.texts == ["one", "two"])
    await readers.leave()
    say(engine, "three")
    second = readers.open(cluster.client, job, after=first.after)
    await until(lambda: second.texts == ["three"])
    say(engine, "four")
    finish(engine)
    await until(lambda: second.is_over)

    assert first.after == "1-0-2"
    assert second.texts == (await stored(cluster, job))[2 : 2 + len(second.texts)]
    assert "gap" not in second.names


async def test_the_end_of_a_cancelled_job_comes_when_its_log_is_stored(cluster: Cluster, readers: Readers) -> None:
    engine = cluster.graders.start("native")
    job = await started(cluster, stage("pipe"))
    reader = readers.open(cluster.client, job)
    say(engine, "one", "two")
    await until(lambda: reader.texts == ["one", "two"])
    headers = {"Authorization": f"Bearer {STAFF}"}
    answer = await cluster.client.http.post(f"/api/v2/courses/cs241/jobs/{job}/cancel", headers=headers)
    assert answer.is_success, answer.text
    await until(lambda: reader.is_over)

    assert reader.texts == ["one", "two"] == await stored(cluster, job)
    assert reader.data("end") == [{"attempt": 1, "outcome": "cancelled"}]


async def test_the_command_prints_the_lines_and_ends_with_the_job(cluster: Cluster) -> None:
    engine = cluster.graders.start("native")
    job = await started(cluster, stage("pipe"))
    access = ["--server", str(cluster.client.http.base_url), "--token", STAFF, "--course", "cs241"]
    following = asyncio.create_task(broadway("job", "log", job, "-f", *access))
    say(engine, "one", "\x1b]0;title\x07two")
    finish(engine)
    done = await following

    assert (done.exit_code, done.stdout) == (0, "one\n\x1b]0;title\x07two\n")  # a pipe gets the bytes
    assert done.stderr.endswith("the job has ended: succeeded\n")


async def test_nothing_is_published_while_nobody_reads(cluster: Cluster, readers: Readers) -> None:
    engine = cluster.graders.start("native")
    async with await aio_pika.connect(cluster.place.amqp_url) as connection:
        channel = await connection.channel()
        spy = await channel.declare_queue(exclusive=True)
        await spy.bind(LOGS.name, "log.#")
        unread = await started(cluster, stage("pipe"))
        say(engine, "unread")
        finish(engine)
        await until(lambda: _is_over(cluster, unread))
        assert await spy.get(fail=False) is None

        read = await started(cluster, stage("pipe"))
        reader = readers.open(cluster.client, read)
        say(engine, "read")
        await until(lambda: reader.texts == ["read"])
        message = await spy.get(fail=False)
        assert message
        assert (message.routing_key, json.loads(message.body)["text"][31:]) == (f"log.native.{read}", "read\n")
        finish(engine)


async def _is_over(cluster: Cluster, job: str) -> bool:
    answer = await cluster.client.get(f"courses/cs241/jobs/{job}", token=STAFF, version="v2")
    return bool(answer.json()["state"] == "finished")


async def test_a_waiting_job_has_a_place_and_an_estimate(cluster: Cluster, readers: Readers) -> None:
    engine = cluster.graders.start("native", slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    run = await cluster.client.submit("cs241", "mp1", students=6)
    jobs = [job["id"] for job in await cluster.client.jobs("cs241", run)]
    reader = readers.open(cluster.client, jobs[5])
    await until(lambda: reader.data("queue"))
    unknown = (await cluster.client.get(f"courses/cs241/jobs/{jobs[5]}", token=STAFF, version="v2")).json()["queue"]
    for job in jobs[:3]:
        finish(engine)
        await until(lambda job=job: _is_over(cluster, job))

    async def queue() -> Any:
        return (await cluster.client.get(f"courses/cs241/jobs/{jobs[5]}", token=STAFF, version="v2")).json()["queue"]

    async def is_known() -> bool:
        found = await queue()
        return bool(found and found["ahead"] == 1 and found["wait"])

    await until(is_known)
    for _ in range(3):
        finish(engine)
    await until(lambda: reader.is_over)

    assert unknown["wait"] is None
    assert "not known yet" in unknown["text"]
    assert [place["ahead"] for place in reader.data("queue")] == sorted(
        (place["ahead"] for place in reader.data("queue")), reverse=True
    )
    assert await queue() is None


async def test_a_retry_is_another_attempt(cluster: Cluster, readers: Readers) -> None:
    first = cluster.graders.start("first", drain_timeout=0)
    job = await started(cluster, stage("pipe"))
    reader = readers.open(cluster.client, job)
    say(first, "of the first")
    await until(lambda: reader.texts == ["of the first"])
    await cluster.graders.stop("first")
    second = cluster.graders.start("second")
    say(second, "of the second")
    await until(lambda: reader.texts == ["of the first", "of the second"])
    finish(second)
    await until(lambda: reader.is_over)

    assert [data["attempt"] for data in reader.data("attempt")] == [1, 2]
    assert [data["attempt"] for data in reader.data("lines")] == [1, 2]


async def test_a_grader_behind_the_gateway_has_a_stored_log_only(cluster: Cluster, readers: Readers) -> None:
    poller = Poller(cluster.client.http, "poller")
    await poller.register()
    job = await started(cluster, stage("exit", "0"))
    await until(poller.poll)
    reader = readers.open(cluster.client, job)
    await until(lambda: reader.data("attempt"))
    await poller.report(job)
    await until(lambda: reader.is_over)

    (attempt,) = reader.data("attempt")
    assert not attempt["live"]
    assert "the stored log comes" in attempt["note"]
    assert reader.names == ["attempt", "end"]


async def test_another_process_goes_on_where_one_has_ended(cluster: Cluster, readers: Readers) -> None:
    engine = cluster.graders.start("native")
    job = await started(cluster, stage("pipe"))
    async with another_api(cluster) as client:
        first = readers.open(client, job)
        say(engine, "one", "two")
        await until(lambda: first.texts == ["one", "two"])
    await until(lambda: first.is_over)
    say(engine, "three")
    second = readers.open(cluster.client, job, after=first.after)
    await until(lambda: second.texts == ["three"])
    finish(engine)
    await until(lambda: second.is_over)

    assert "end" not in first.names
    assert "gap" not in second.names


async def test_a_student_reads_the_own_untrusted_stages_only(cluster: Cluster, readers: Readers) -> None:
    engine = cluster.graders.start("native")
    untrusted = stage("pipe", untrusted=True, read=[], write=[])
    job = await started(cluster, untrusted, stage("pipe"), student="ada")
    own, other = await student_token(cluster, "ada"), await student_token(cluster, "bob")
    student, staff = readers.open(cluster.client, job, token=own), readers.open(cluster.client, job)
    stranger = readers.open(cluster.client, job, token=other)
    say(engine, "mine")
    await until(lambda: student.texts == ["mine"])
    finish(engine)
    say(engine, "the answer is hidden")
    await until(lambda: staff.texts == ["mine", "the answer is hidden"])
    finish(engine)
    await until(lambda: student.is_over and stranger.is_over)

    assert (student.texts, stranger.status, stranger.events) == (["mine"], 404, [])
    assert [data["stage"] for data in student.data("stage")] == [0]
    assert "gap" not in student.names
    assert "hidden" not in str(student.events)
    assert await stored(cluster, job, token=own) == ["mine"]
    assert await stored(cluster, job) == ["mine", "the answer is hidden"]
    assert (await cluster.client.get(f"courses/cs241/jobs/{job}/log", token=other, version="v2")).status_code == 404


@contextlib.asynccontextmanager
async def another_api(cluster: Cluster) -> AsyncIterator[Client]:
    settings = cluster.settings.model_copy(update={"bind_port": free_port(), "course_config": None})
    stop, parts = Stop(), {"store": cluster.opened.store, "rabbit": cluster.opened.rabbit}
    async with asyncio.TaskGroup() as group, Client.connect(f"http://127.0.0.1:{settings.bind_port}") as client:
        group.create_task(ingest.serve(settings, **parts, stop=stop))
        await until(client.is_ready)
        yield client
        stop.set()

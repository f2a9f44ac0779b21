"""Reports on jobs by graders that do not have them, at a real broker, with graders' own users."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import aio_pika
import httpx2
import pytest
from harness import Cluster, stage, until
from intruder import Intruder
from processes import processes
from pydantic import SecretStr
from servers import Node

from broadway.domain.job import Outcome, Phase
from broadway.ingest.v1 import stream
from broadway.management import Management
from broadway.messages.envelope import encode
from broadway.messages.events import JobDispatched, JobFinished, JobStarted
from broadway.messages.ticket import TICKETS, Tickets
from broadway.messages.topology import DEAD_LETTERS, dead_letter_key, grader_user
from broadway.results import contests
from broadway.runtime import metrics
from broadway.runtime.metrics import UNPROVEN
from broadway.settings.programs import ApiSettings


@pytest.fixture(scope="module")
def settings(settings: ApiSettings, broker_node: Node) -> ApiSettings:
    return settings.model_copy(update={"management_url": SecretStr(broker_node.administration)})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "REFUSE_AFTER", 1.0)
    monkeypatch.setattr(stream, "KEEP_ALIVE", 0.1)


@pytest.fixture
async def intruder(cluster: Cluster, broker_node: Node) -> AsyncIterator[Intruder]:
    async with contextlib.AsyncExitStack() as stack:
        management = await stack.enter_async_context(Management.connect(broker_node.administration))
        name = f"g{token_hex(4)}"
        stack.push_async_callback(management.delete, "users", grader_user(name))
        yield await stack.enter_async_context(Intruder.join(cluster.client.http, name))


async def submit(cluster: Cluster, *command: str) -> str:
    await cluster.client.register("cs241", "mp1", students=[stage(*command or ("exit", "0"))])
    return await cluster.client.submit("cs241", "mp1", students=1)


def runs_on(cluster: Cluster, run_id: str, grader: str) -> Callable[[], Awaitable[bool]]:
    async def is_running() -> bool:
        (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
        return bool(job["state"] == "running" and job["grader"] == grader)

    return is_running


async def outcome(cluster: Cluster, run_id: str) -> tuple[Any, ...]:
    (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]
    return job["outcome"], job["grader"], job["reason"], job["attempts"]


def refused(reason: metrics.Refusal) -> float:
    return metrics.OUTCOMES_REFUSED.labels(reason)._value.get()  # noqa: SLF001 - nothing public has it


@pytest.mark.parametrize("says_that_it_starts", [True, False])
async def test_a_grader_that_gave_a_job_back_cannot_report_it_while_another_runs_it(
    cluster: Cluster, intruder: Intruder, says_that_it_starts: bool
) -> None:
    run_id = await submit(cluster, "pipe")
    async with intruder.taken() as taken:
        await taken.message.nack(requeue=True)
    honest = cluster.graders.start("honest", slots=1)
    await until(runs_on(cluster, run_id, "honest"))
    before = refused(metrics.Refusal.UNKNOWN)
    if says_that_it_starts:
        await intruder.report(intruder.started(taken.job, "e1"), "started")
    await intruder.report(intruder.finished(taken.job, "e1"), "finished")
    await until(lambda: refused(metrics.Refusal.UNKNOWN) >= before + 1)
    honest.pipe.put_nowait(None)

    assert await outcome(cluster, run_id) == ("succeeded", "honest", "", 1)


async def test_an_execution_that_was_given_back_cannot_be_reported_even_before_the_job_starts_again(
    cluster: Cluster, intruder: Intruder
) -> None:
    run_id = await submit(cluster)
    before = refused(metrics.Refusal.RELEASED)
    async with intruder.taken() as taken:
        await intruder.report(intruder.started(taken.job, "e1"), "started")
        await until(runs_on(cluster, run_id, intruder.name))
        await intruder.report(intruder.released(taken.job, "e1"), "released")
        await intruder.report(intruder.finished(taken.job, "e1", outcome=Outcome.SUCCEEDED), "finished")
        await until(lambda: refused(metrics.Refusal.RELEASED) >= before + 1)
        await taken.message.nack(requeue=True)
    cluster.graders.start("honest", slots=1)

    assert await outcome(cluster, run_id) == ("succeeded", "honest", "", 1)


async def test_a_report_needs_the_proof_of_its_own_grader(cluster: Cluster, intruder: Intruder) -> None:
    run_id = await submit(cluster)
    forged = metrics.MESSAGES.labels(JobFinished.type, metrics.Handled.FORGED)._value  # noqa: SLF001
    before = forged.get()
    async with intruder.taken() as taken:
        right = intruder.finished(taken.job, "e1")
        others = Tickets(await cluster.opened.store.secrets.get(TICKETS)).proof_key("another")
        wrong = replace(intruder, key=others).finished(taken.job, "e1")
        for proof in ("", wrong.proof, intruder.finished(taken.job, "e2").proof):
            await intruder.report(right.model_copy(update={"proof": proof}), "finished")
        await intruder.report(right.model_copy(update={"ticket": ""}), "finished")
        await until(lambda: forged.get() >= before + 4)
        await taken.message.nack(requeue=True)
    cluster.graders.start("honest", slots=1)

    assert await outcome(cluster, run_id) == ("succeeded", "honest", "", 1)


async def test_a_grader_of_an_earlier_version_reports_without_proofs(cluster: Cluster, intruder: Intruder) -> None:
    body = {"hostname": "host", "pool": "default", "slots": 1}
    run_id = await submit(cluster)
    async with intruder.taken() as taken:
        answer = await cluster.client.http.post(f"/api/v2/graders/{intruder.name}", json=body, headers=intruder.secret)
        assert answer.is_success
        without = intruder.finished(taken.job, "e1").model_copy(update={"proof": ""})
        await intruder.report(without, "finished")

        assert await outcome(cluster, run_id) == ("failed", intruder.name, "forged", 1)


async def test_a_job_moves_to_a_grader_that_gets_it_after_the_first_one_died(
    cluster: Cluster, intruder: Intruder, tmp_path: Path
) -> None:
    """The intruder is honest here: it reports a job that the broker has redelivered to it."""
    run_id = await submit(cluster, "hang")
    async with processes(tmp_path / "processes", cluster.place.environment) as started:
        await started.attached_grader("first", str(cluster.client.http.base_url), slots=1)
        await until(runs_on(cluster, run_id, "first"))
        await started.kill("first")
    async with intruder.taken() as taken:
        await intruder.report(intruder.started(taken.job, "e1"), "started")
        await intruder.report(intruder.finished(taken.job, "e1", reason="right"), "finished")

        assert await outcome(cluster, run_id) == ("failed", intruder.name, "right", 2)


@contextlib.asynccontextmanager
async def watching(cluster: Cluster, job_id: str) -> AsyncIterator[bytearray]:
    """Watch a job; yield the bytes of its stream, which grow."""
    read, headers = bytearray(), {"Authorization": "Bearer query-241"}

    async def follow(answer: httpx2.Response) -> None:
        async for piece in answer.aiter_raw():
            read.extend(piece)

    async with cluster.client.http.stream("GET", f"/api/v1/stream/cs241/{job_id}", headers=headers) as answer:
        task = asyncio.create_task(follow(answer))
        await until(lambda: read)
        yield read
        await task


async def test_a_forged_start_reaches_no_watcher(cluster: Cluster, intruder: Intruder) -> None:
    run_id = await submit(cluster)
    forged = metrics.MESSAGES.labels(JobStarted.type, metrics.Handled.FORGED)._value  # noqa: SLF001
    before, hearing = forged.get(), 3  # results, the dispatcher, and the feed
    async with intruder.taken() as taken:
        job_id = taken.job.job_id
        async with watching(cluster, job_id) as read:
            start = intruder.started(taken.job, "e1")
            await intruder.report(start.model_copy(update={"ticket": ""}), "started")
            await intruder.report(start.model_copy(update={"proof": ""}), "started")
            await until(lambda: forged.get() >= before + 2 * hearing)
            assert b"STARTED" not in read
            await taken.message.nack(requeue=True)
            cluster.graders.start("honest", slots=1)
            await until(lambda: b"FINISHED" in read)

    assert await outcome(cluster, run_id) == ("succeeded", "honest", "", 1)


def letter_about(cluster: Cluster, subject: str) -> Callable[[], Awaitable[Any]]:
    async def find() -> Any:
        return next(
            (each for each in await cluster.opened.store.dead_letters.latest(10) if each.subject == subject), None
        )

    return find


async def test_a_dead_letter_ends_the_job_of_its_event_and_not_of_its_headers(
    cluster: Cluster, intruder: Intruder
) -> None:
    """The dispatcher has no use for outcomes, so it moves this one to the dead letters."""
    own_run = await submit(cluster)
    async with intruder.taken() as taken:
        honest = cluster.graders.start("honest", slots=1)
        run_id = await submit(cluster, "pipe")
        await until(runs_on(cluster, run_id, "honest"))
        (victim,) = (await cluster.client.describe("cs241", run_id))["jobs"]
        names_the_victim = {"ce-subject": f"cs241/{run_id}/{victim['id']}", "ce-id": f"{victim['id']}:1:1"}
        event = intruder.finished(taken.job, "e1")
        await intruder.report(event, "started", **names_the_victim)
        letter = await until(letter_about(cluster, event.subject))

        assert letter.queue == "broadway.dispatcher"
        honest.pipe.put_nowait(None)
        assert await outcome(cluster, run_id) == ("succeeded", "honest", "", 1)
        assert await letter_about(cluster, names_the_victim["ce-subject"])() is None
        await cluster.client.finished("cs241", own_run)


async def test_a_dead_letter_that_no_service_sent_ends_no_job(cluster: Cluster) -> None:
    honest = cluster.graders.start("honest", slots=1)
    run_id = await submit(cluster, "pipe")
    await until(runs_on(cluster, run_id, "honest"))
    (victim,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    job = {"course": "cs241", "run_id": run_id, "job_id": victim["id"], "generation": 1}
    made_up = JobDispatched(**job, assignment="mp1", phase=Phase.STUDENTS, attempt=1, stages=[])
    counted = metrics.DEAD_LETTERS.labels(UNPROVEN)._value  # noqa: SLF001
    before, wire = counted.get(), encode(made_up, source="/broadway/grader")
    async with await aio_pika.connect(cluster.place.amqp_url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(DEAD_LETTERS.name, ensure=False)
        message = aio_pika.Message(wire.body, headers=dict(wire.headers), message_id=wire.message_id)
        await exchange.publish(message, dead_letter_key("broadway.ready.default"))
    letter = await until(letter_about(cluster, made_up.subject))

    assert "no service sent it, but an unknown sender" in letter.reason
    await until(lambda: counted.get() >= before + 1)  # the letter is counted once it is stored
    honest.pipe.put_nowait(None)
    assert await outcome(cluster, run_id) == ("succeeded", "honest", "", 1)


async def test_a_dispatched_job_that_its_graders_reject_ends(cluster: Cluster, intruder: Intruder) -> None:
    """The broker moves it to the dead letters, with the dispatcher as its sender."""
    run_id = await submit(cluster)
    async with intruder.taken() as taken:
        await taken.message.reject(requeue=False)
    (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]

    assert job["outcome"] == "infrastructure_error"
    assert "the job could not be handled and became a dead letter: rejected" in job["reason"]

"""Each grader has its own user at the broker, with only the permissions that it needs."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import aio_pika
import httpx2
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed, ProbableAuthenticationError
from aiormq.exceptions import ChannelAccessRefused
from harness import Cluster, stage, until
from processes import processes
from pydantic import SecretStr
from servers import Node
from yarl import URL

from broadway.domain.job import Outcome
from broadway.ingest.gateway.broker_accounts import GONE_FOR, LEFT_FOR, MAX_CONNECTIONS, BrokerAccounts
from broadway.management import Management, ManagementError
from broadway.messages.envelope import encode
from broadway.messages.events import GraderHeartbeat, JobFinished
from broadway.messages.ticket import Tickets
from broadway.messages.topology import control_queue, grader_of, grader_user
from broadway.settings.programs import ApiSettings

OPERATOR = {"Authorization": "Bearer operator-token"}
TOKEN = {"Authorization": "Bearer cluster-token"}
NOW = datetime.now(UTC)


@pytest.fixture
async def management(broker_node: Node) -> AsyncIterator[Management]:
    async with Management.connect(broker_node.administration) as opened:
        yield opened


@pytest.fixture
async def name(management: Management) -> AsyncIterator[str]:
    """A grader's id; its user is deleted afterwards, since users belong to the broker and not to a virtual host."""
    grader_id = f"g{token_hex(4)}"
    yield grader_id
    await management.delete("users", grader_user(grader_id))


@pytest.fixture(scope="module")
def settings(settings: ApiSettings, broker_node: Node) -> ApiSettings:
    return settings.model_copy(update={"management_url": SecretStr(broker_node.administration)})


@pytest.fixture
def cluster(name: str, cluster: Cluster) -> Cluster:  # noqa: ARG001 - the user outlives the grader
    return cluster


async def join(cluster: Cluster, name: str, **about: Any) -> str:
    body = {"hostname": "host", "pool": "default", "slots": 2, **about}
    answer = await cluster.client.http.post(f"/api/v2/graders/{name}", json=body, headers=TOKEN)
    assert answer.status_code == httpx2.codes.OK, answer.text
    url: str = answer.json()["amqp_url"]
    return url


@contextlib.asynccontextmanager
async def login(url: str) -> AsyncIterator[AbstractConnection]:
    async with await aio_pika.connect(url) as connection:
        yield connection


Action = Callable[[AbstractChannel], Awaitable[Any]]


def publish(exchange: str, key: str) -> Action:
    async def action(channel: AbstractChannel) -> None:
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(b"{}"), key, mandatory=False)

    return action


def consume(queue: str) -> Action:
    async def action(channel: AbstractChannel) -> None:
        async def ignore(_: Any) -> None: ...

        await (await channel.get_queue(queue, ensure=False)).consume(ignore)

    return action


def bind(exchange: str, key: str) -> Action:
    """Bind the grader's own queue, which exists."""

    async def action(channel: AbstractChannel) -> None:
        user = str(channel._connection.url.user)  # type: ignore[attr-defined]  # noqa: SLF001 - nothing public has it
        await (await channel.get_queue(control_queue(str(grader_of(user))).name, ensure=False)).bind(exchange, key)

    return action


FORBIDDEN: dict[str, Action] = {
    "declare a queue": lambda channel: channel.declare_queue("mine", durable=True),
    "declare a queue like one of its own": lambda channel: channel.declare_queue("broadway.ready.default2"),
    "delete its pool's queue": lambda channel: channel.queue_delete("broadway.ready.default"),
    "declare an exchange": lambda channel: channel.declare_exchange("mine", "topic"),
    "delete an exchange": lambda channel: channel.exchange_delete("broadway.events"),
    "consume a course's queue": consume("broadway.course.cs241.bulk"),
    "consume another pool": consume("broadway.ready.gpu"),
    "consume the results": consume("broadway.results"),
    "consume the dead letters": consume("broadway.dead"),
    "consume another's commands": consume("broadway.control.other"),
    "hear another's commands": bind("broadway.control", "grader.other"),
    "hear the facts": bind("broadway.events", "#"),
    "publish a job": publish("broadway.jobs", "ready.default"),
    "publish past the exchanges": publish("", "broadway.results"),
    "publish a command": publish("broadway.control", "grader.other"),
    "publish a dead letter": publish("broadway.dlx", "dead.broadway.results"),
    "settle a job": publish("broadway.events", "job.settled.cs241"),
    "requeue a job": publish("broadway.events", "job.requeued.cs241"),
    "advance a run": publish("broadway.events", "run.finished.cs241"),
    "live for another": publish("broadway.events", "grader.heartbeat.other"),
    "write into another's live log": publish("broadway.logs", f"log.other.{'a' * 24}"),
    "write live logs of many jobs": publish("broadway.logs", "log.other.#"),
    "read live logs": bind("broadway.logs", "log.#"),
}


@pytest.fixture
async def others(cluster: Cluster) -> AsyncIterator[None]:
    """Declare another pool's queue, and another grader's queue of commands."""
    async with login(cluster.place.amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("broadway.ready.gpu", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.declare_queue("broadway.control.other")
        yield
        for queue in ("broadway.ready.gpu", "broadway.control.other"):  # a later grader has the second name
            await channel.queue_delete(queue)


@pytest.mark.usefixtures("others")
async def test_a_graders_user_has_no_unneeded_permissions(cluster: Cluster, name: str) -> None:
    allowed = []
    async with login(await join(cluster, name)) as connection:
        own = await connection.channel()
        await own.declare_queue(control_queue(name).name, exclusive=True)
        for description, action in FORBIDDEN.items():
            async with connection.channel() as channel:
                try:
                    await action(channel)
                    allowed.append(description)
                except ChannelAccessRefused:
                    pass

    assert allowed == []


async def test_a_graders_user_cannot_use_the_management_api(cluster: Cluster, broker_node: Node, name: str) -> None:
    url = URL(await join(cluster, name))
    own = URL(broker_node.management_url).with_user(url.user).with_password(url.password)
    async with Management.connect(str(own)) as management:
        with pytest.raises(ManagementError) as refused:
            await management.get("whoami")

    assert refused.value.status == httpx2.codes.UNAUTHORIZED


async def test_a_graders_connections_are_limited(cluster: Cluster, name: str) -> None:
    url = await join(cluster, name)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            await stack.enter_async_context(login(url))
        with pytest.raises(AMQPError):
            await stack.enter_async_context(login(url))


async def test_every_join_has_its_own_password_which_is_not_stored(cluster: Cluster, name: str) -> None:
    first, second = await join(cluster, name), await join(cluster, name)
    with pytest.raises(ProbableAuthenticationError):
        await aio_pika.connect(first)
    async with login(second):
        pass

    assert str(URL(second).password) not in str(await cluster.opened.store.graders.all())


async def test_a_grader_grades_with_its_own_user(cluster: Cluster, management: Management, name: str) -> None:
    cluster.graders.attach(name, str(cluster.client.http.base_url))
    await cluster.client.register("cs241", "mp1", students=[stage("print", "hello")])
    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=5))

    assert {(job["outcome"], job["grader"]) for job in run["jobs"]} == {("succeeded", name)}
    users = {each["user"] for each in await management.get("connections", "username", grader_user(name))}
    assert users == {grader_user(name)}


def runs(cluster: Cluster, name: str, jobs: int) -> Callable[[], Awaitable[bool]]:
    async def has_jobs() -> bool:
        described = (await cluster.client.http.get(f"/api/v2/graders/{name}", headers=OPERATOR)).json()
        return len(described.get("running", [])) == jobs

    return has_jobs


async def test_a_revoked_grader_is_cut_off_and_its_jobs_run_elsewhere_at_once(
    cluster: Cluster, name: str, tmp_path: Path
) -> None:
    await cluster.client.register("cs241", "mp1", students=[stage("sleep", "3")])
    async with processes(tmp_path / "processes", cluster.place.environment) as started:
        await started.attached_grader(name, str(cluster.client.http.base_url), slots=2)
        run_id = await cluster.client.submit("cs241", "mp1", students=2)
        await until(runs(cluster, name, 2))
        cluster.graders.start("other")
        thief = await cluster.client.http.post(f"/api/v2/graders/{name}", json={"hostname": "host"}, headers=TOKEN)
        assert (thief.status_code, "amqp_url" in thief.json()) == (403, False)
        because = {"reason": "stolen"}
        answer = await cluster.client.http.post(f"/api/v2/graders/{name}/revoke", json=because, headers=OPERATOR)
        assert (answer.status_code, answer.json()["state"]) == (202, "revoked")

        jobs = (await cluster.client.finished("cs241", run_id))["jobs"]
        assert {(job["outcome"], job["grader"]) for job in jobs} == {("succeeded", "other")}
        assert await started.running[name].wait() == 1
        assert "may not grade any more" in started.log(name)


async def test_a_grader_joins_again_when_the_broker_has_lost_its_user(
    cluster: Cluster, management: Management, name: str
) -> None:
    containers = cluster.graders.attach(name, str(cluster.client.http.base_url))
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    run_id = await cluster.client.submit("cs241", "mp1", students=2)

    await until(runs(cluster, name, 2))
    await management.delete("users", grader_user(name))
    for _ in range(2):
        containers.pipe.put_nowait(None)
    jobs = (await cluster.client.finished("cs241", run_id))["jobs"]

    assert {(job["outcome"], job["grader"]) for job in jobs} == {("succeeded", name)}


async def test_a_grader_cannot_report_in_the_name_of_another(cluster: Cluster, name: str) -> None:
    containers = cluster.graders.start("honest", slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    await until(lambda: containers.started)
    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    about = {"course": "cs241", "run_id": run_id, "job_id": job["id"], "generation": 1, "execution_id": "e1"}
    forged = JobFinished(
        **about, grader_id="honest", started_at=NOW, finished_at=NOW, outcome=Outcome.FAILED, reason="forged"
    )
    async with login(await join(cluster, name)) as connection:
        await send_report(connection, forged, "job.finished.cs241", user=None)
        await send_report(connection, forged, "job.finished.cs241", user=grader_user(name))
        with pytest.raises(ChannelPreconditionFailed):
            await send_report(connection, forged, "job.finished.cs241", user=grader_user("honest"))
    containers.pipe.put_nowait(None)
    (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]

    assert (job["outcome"], job["grader"], job["reason"]) == ("succeeded", "honest", "")


async def test_a_grader_cannot_report_a_job_that_it_was_not_given(cluster: Cluster, name: str) -> None:
    containers = cluster.graders.start("honest", slots=1)
    await cluster.client.register("cs241", "mp1", students=[stage("pipe")])
    run_id = await cluster.client.submit("cs241", "mp1", students=1)
    await until(lambda: containers.started)
    (job,) = (await cluster.client.describe("cs241", run_id))["jobs"]
    made_up = Tickets(await cluster.opened.store.secrets.get("another")).of(job["id"], 1)
    about = {"course": "cs241", "run_id": run_id, "job_id": job["id"], "generation": 1, "execution_id": "e1"}
    report = JobFinished(
        **about, grader_id=name, started_at=NOW, finished_at=NOW, outcome=Outcome.FAILED, reason="forged"
    )
    async with login(await join(cluster, name)) as connection:
        for ticket in ("", made_up, "\N{GREEK SMALL LETTER ALPHA}"):
            forged = report.model_copy(update={"ticket": ticket})
            await send_report(connection, forged, "job.finished.cs241", user=grader_user(name))
    containers.pipe.put_nowait(None)
    (job,) = (await cluster.client.finished("cs241", run_id))["jobs"]

    assert (job["outcome"], job["grader"], job["reason"]) == ("succeeded", "honest", "")
    assert job["attempts"] == 1


async def test_a_grader_that_is_revoked_while_it_joins_gets_no_login(
    cluster: Cluster, management: Management, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    really_open = BrokerAccounts.open

    async def revoked_meanwhile(accounts: BrokerAccounts, grader_id: str, **more: Any) -> str:
        answer = await cluster.client.http.post(f"/api/v2/graders/{grader_id}/revoke", headers=OPERATOR)
        assert answer.status_code == 202
        return await really_open(accounts, grader_id, **more)

    monkeypatch.setattr(BrokerAccounts, "open", revoked_meanwhile)
    answer = await cluster.client.http.post(
        f"/api/v2/graders/{name}", json={"hostname": "h", "pool": "default", "slots": 1}, headers=TOKEN
    )

    assert answer.status_code == 403, answer.text
    assert grader_user(name) not in str(await management.get("users"))


async def send_report(connection: AbstractConnection, event: JobFinished, key: str, *, user: str | None) -> None:
    wire = encode(event, source="/broadway/grader")
    async with connection.channel() as channel:
        exchange = await channel.get_exchange("broadway.events", ensure=False)
        message = aio_pika.Message(wire.body, headers=dict(wire.headers), message_id=token_hex(8), user_id=user)
        await exchange.publish(message, key)


async def test_users_of_graders_that_are_gone_are_removed(
    cluster: Cluster, settings: ApiSettings, management: Management, name: str
) -> None:
    graders = cluster.opened.store.graders
    accounts = BrokerAccounts(management, graders, settings.amqp_url.get_secret_value())
    beat = GraderHeartbeat(grader_id=name, hostname="h", pool="default", slots=1, sent_at=datetime.now(UTC))

    async def sweep(after: timedelta) -> bool:
        """Sweep as if this time had passed, and return whether the user still exists."""
        await accounts.sweep(datetime.now(UTC) + after)
        return name in str(await management.get("users"))

    await join(cluster, name)
    assert await sweep(timedelta(0)), "it has just joined"
    await graders.beat([beat], now=datetime.now(UTC))
    assert await sweep(2 * GONE_FOR), "it lives"
    await graders.mark_dead(name)
    assert await sweep(GONE_FOR / 2), "it may come back"
    assert not await sweep(2 * GONE_FOR)

    await join(cluster, name)
    await graders.beat([beat.model_copy(update={"leaving": True, "sent_at": datetime.now(UTC)})], now=datetime.now(UTC))
    assert not await sweep(2 * LEFT_FOR)


async def test_a_grader_waits_for_an_unavailable_management_api(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def fail(*_: Any, **__: Any) -> str:
        raise ManagementError("not there")

    monkeypatch.setattr(BrokerAccounts, "open", fail)
    cluster.graders.attach(name, str(cluster.client.http.base_url))
    answer = await cluster.client.http.post(
        f"/api/v2/graders/{name}", json={"hostname": "h", "pool": "default", "slots": 1}, headers=TOKEN
    )
    assert answer.status_code == 503
    monkeypatch.undo()
    await cluster.client.register("cs241", "mp1", students=[stage("exit", "0")])
    run = await cluster.client.finished("cs241", await cluster.client.submit("cs241", "mp1", students=1))

    assert run["jobs"][0]["grader"] == name

"""A cluster of three brokers whose leader is killed repeatedly: no confirmed message is lost."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from secrets import token_hex

import aio_pika
import httpx2
import pytest
from faults.proxy import balancer
from faults.report import Report
from faults.servers import Server
from harness import free_port, until
from yarl import URL

from broadway.domain.job import JobClass
from broadway.local.broker import NAME, Broker, Member, broker
from broadway.messages.events import JobQueued
from broadway.messages.topology import JOBS, course_key, course_queue
from broadway.ports import PublishError
from broadway.rabbit.client import Rabbit

pytestmark = pytest.mark.long

HOSTS = {f"n{number}": f"127.0.0.{number}" for number in (1, 2, 3)}
QUEUE, KEY = course_queue("cs1", JobClass.BULK), course_key("cs1", JobClass.BULK)
KILLS, PUBLISHERS = 3, 50
SETTLED = 5  # seconds between two kills


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Server[Broker]]]:
    distribution = free_port()
    cookie, password = token_hex(20), token_hex(20)
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for host in HOSTS:
            port, management_port = free_port(), free_port()
            member = Member(host, HOSTS, distribution, cookie, password)

            def start(
                host: str = host, port: int = port, management_port: int = management_port, member: Member = member
            ) -> contextlib.AbstractAsyncContextManager[Broker]:
                directory = tmp_path / host
                return broker(directory, port=port, management_port=management_port, member=member, within=120)

            servers.append(Server(start))
        await asyncio.gather(*(stack.enter_async_context(server.running()) for server in servers))
        await until(lambda: _has_all_nodes(servers[0]))
        yield servers


async def _has_all_nodes(server: Server[Broker]) -> bool:
    found = await _ask(server, "/api/nodes")
    return sum(bool(node["running"]) for node in found) == len(HOSTS)


async def _ask(server: Server[Broker], path: str) -> list[dict[str, object]]:
    node = server.current
    async with httpx2.AsyncClient(base_url=node.management_url, auth=(node.username, node.password)) as http:
        answer = (await http.get(path)).raise_for_status().json()
    return answer if isinstance(answer, list) else [answer]


@pytest.mark.timeout(400)
async def test_no_confirmed_message_is_lost(nodes: list[Server[Broker]], report: Report) -> None:
    address = URL(nodes[0].current.amqp_url)
    targets = [(URL(n.current.amqp_url).host or "", URL(n.current.amqp_url).port or 0) for n in nodes]
    async with balancer(targets) as port:
        url = str(address.with_host("127.0.0.1").with_port(port))
        async with Rabbit.connect(url, service="test") as rabbit:
            await rabbit.declare_topology()
            await rabbit.declare(QUEUE)
            confirmed: dict[str, float] = {}
            is_over = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for number in range(PUBLISHERS):
                    group.create_task(_publish(rabbit, number, confirmed, is_over))
                for _ in range(KILLS):
                    await asyncio.sleep(SETTLED)
                    (queue,) = await _ask(nodes[0], f"/api/queues/{NAME}/{QUEUE.name}")
                    leader = str(queue["leader"]).partition("@")[2]
                    await nodes[list(HOSTS).index(leader)].kill()
                    await until(lambda: _has_all_nodes(nodes[0]))
                await asyncio.sleep(SETTLED)
                ended = time.monotonic()
                is_over.set()
            received = await _receive(url)

    moments = sorted([*(moment for moment in confirmed.values() if moment < ended), ended])
    gap = max(later - earlier for earlier, later in pairwise(moments))
    lost = confirmed.keys() - received
    seen = f"{len(confirmed)} confirmed, the longest pause between two confirms {gap:.1f} s"
    report.row("cluster", f"the leader of three brokers killed {KILLS} times under load", seen, f"{len(lost)} messages")
    assert lost == set()
    assert gap < 5


async def _publish(rabbit: Rabbit, publisher: int, confirmed: dict[str, float], is_over: asyncio.Event) -> None:
    number = 0
    while not is_over.is_set():
        number += 1
        job_id = f"{publisher}-{number}"
        event = JobQueued(course="cs1", run_id="r", job_id=job_id, generation=1, job_class=JobClass.BULK)
        with contextlib.suppress(PublishError):
            await rabbit.publish(JOBS, KEY, event)
            confirmed[job_id] = time.monotonic()


async def _receive(url: str) -> set[str]:
    """Return the job ids of all messages in the queue."""
    found: set[str] = set()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(1000)
        queue = await channel.get_queue(QUEUE.name, ensure=False)
        async with queue.iterator(timeout=5) as messages:
            with contextlib.suppress(TimeoutError):
                async for message in messages:
                    found.add(str(message.message_id).partition(":")[0])
                    await message.ack()
    return found

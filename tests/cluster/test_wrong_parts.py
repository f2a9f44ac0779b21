"""A wrong course or grader does not keep the control plane from serving the others."""

import json
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
from harness import Cluster, free_port, stage, until
from pymongo import AsyncMongoClient
from yarl import URL

from broadway.domain.course import MAX_CONCURRENCY
from broadway.messages.envelope import encode
from broadway.messages.events import GraderHeartbeat
from broadway.messages.topology import EVENTS, heartbeat_key

TOKEN = {"Authorization": "Bearer cluster-token"}
OPERATOR = {"Authorization": "Bearer operator-token"}


async def beat(cluster: Cluster, name: str, **more: Any) -> None:
    """Publish a heartbeat with some of its keys replaced, as a grader that is out of control might."""
    url = cluster.place.amqp_url
    valid = GraderHeartbeat(grader_id=name, hostname="h", pool="default", slots=1, sent_at=datetime.now(UTC))
    wire = encode(valid, source="/test")
    body = json.dumps({**json.loads(wire.body), **more}).encode()
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        target = await channel.get_exchange(EVENTS.name, ensure=False)
        user = URL(url).user
        message = aio_pika.Message(
            body, headers=dict(wire.headers), message_id=wire.message_id, type=wire.type, user_id=user
        )
        await target.publish(message, heartbeat_key(name))


async def join(cluster: Cluster, name: str, *, pool: str = "default", slots: int = 1) -> None:
    body = {"hostname": "host", "pool": pool, "slots": slots}
    answer = await cluster.client.http.post(f"/api/v2/graders/{name}", json=body, headers=TOKEN)
    assert answer.status_code == 200, answer.text


async def grade(cluster: Cluster, course: str) -> None:
    """Grade a run of a course."""
    run = await cluster.client.finished(course, await cluster.client.submit(course, "mp1", students=3))
    assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * 3


async def test_heartbeats_out_of_bounds_stop_no_course(cluster: Cluster) -> None:
    for course in ("cs101", "capped"):
        await cluster.client.register(course, "mp1", students=[stage("exit", "0")])
    cluster.graders.start("good", slots=2)
    await join(cluster, "wrong", slots=2)
    await join(cluster, "elsewhere", pool="another")
    running = {"job_id": "j", "generation": 1, "execution_id": "e"}
    for more in (
        {"slots": 100_000},
        {"slots": -1_000_000},
        {"running": [running] * 50_000},
        {"sent_at": "2026-01-01T00:00:00"},
        {"slots": 512},
    ):
        await beat(cluster, "wrong", **more)
    await beat(cluster, "elsewhere", slots=0, pool="default")
    await beat(cluster, "elsewhere", slots=512, pool="default")

    await grade(cluster, "cs101")
    await grade(cluster, "capped")

    async def is_counted() -> bool:
        await beat(cluster, "wrong", slots=512)  # a grader that is silent for three seconds is not online
        graders = (await cluster.client.http.get("/api/v2/graders", headers=OPERATOR)).json()["graders"]
        found = {grader["id"]: (grader["pool"], grader["slots"], grader["state"]) for grader in graders}
        return found["wrong"] == ("default", 2, "online") and found["elsewhere"][0] == "another"

    await until(is_counted)


@pytest.fixture(scope="module")
def settings(settings: Any) -> Any:
    return settings.model_copy(update={"bind_port": free_port()})


async def test_a_stored_cap_beyond_the_brokers_limit_stops_no_course(cluster: Cluster) -> None:
    mongodb = cluster.settings.mongodb
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb.dsn)
    async with client:
        courses = client[mongodb.primary]["course"]
        await courses.update_one({"_id": "cs241"}, {"$set": {"concurrency": 100_000}})
        await courses.insert_one({"_id": "x" * 300, "tokens": [], "concurrency": 2**60})
    for course in ("cs101", "cs241"):
        await cluster.client.register(course, "mp1", students=[stage("exit", "0")])
    cluster.graders.start("good", slots=2)

    await grade(cluster, "cs241")
    await grade(cluster, "cs101")

    found = await cluster.opened.store.courses.get("cs241")
    assert found
    assert found.concurrency == MAX_CONCURRENCY

"""`broadway topology`: drift of the broker is reported, and repaired without touching messages."""

import json
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

import pytest
from harness import Command, Place, broadway
from servers import Node
from yarl import URL

from broadway.domain.course import Course
from broadway.domain.job import JobClass
from broadway.management import Management
from broadway.messages.definitions import Kind
from broadway.messages.events import JobQueued
from broadway.messages.topology import DEAD, DISPATCHER, JOBS, RESULTS, course_key, course_queue, ready_queue
from broadway.mongo.store import Store
from broadway.rabbit.client import Rabbit

BACKLOG = course_queue("cs241", JobClass.BULK)
POLICY = "broadway"


class Verdict(Command):
    """The result of `broadway topology` for a broker."""

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.stdout)
        return report

    @property
    def problems(self) -> list[str]:
        return [drift["problem"] for drift in self.report["drifts"]]


class Operator:
    """An operator with a shell, a broker and the password of its management API."""

    def __init__(self, place: Place, management: Management, administration: str) -> None:
        self.management = management
        self.vhost = URL(place.amqp_url).path.removeprefix("/")
        self.environment = {**place.environment, "BROADWAY_MANAGEMENT_URL": administration}

    async def topology(self, *arguments: str, **environment: str) -> Verdict:
        done = await broadway("topology", *arguments, **{**self.environment, **environment})
        return Verdict(done.exit_code, done.stdout, done.stderr)

    async def check(self) -> Verdict:
        return await self.topology("check", "--json")

    async def apply(self) -> Verdict:
        return await self.topology("apply", "--json")


@pytest.fixture
async def management(broker_node: Node) -> AsyncIterator[Management]:
    async with Management.connect(broker_node.administration) as opened:
        yield opened


@pytest.fixture
def bare(place: Place, management: Management, broker_node: Node) -> Operator:
    """An operator of a broker that has nothing yet."""
    return Operator(place, management, broker_node.administration)


@pytest.fixture
async def operator(place: Place, bare: Operator) -> Operator:
    """An operator of a broker that has the complete topology, for one course."""
    names = {"primary": f"{place.name}_ag", "logs": f"{place.name}_logs"}
    async with Store.connect(place.mongodb_dsn, **names, server_timeout=5, service="test") as store:
        await store.courses.replace_all([Course(id="cs241", tokens=(), pool="gpu")])
    assert (await bare.apply()).exit_code == 0
    return bare


async def test_an_empty_broker_gets_everything(bare: Operator) -> None:
    found = await bare.check()
    assert found.exit_code == 1
    assert f"queue {RESULTS.name} is missing" in found.problems
    assert f"policy {POLICY} is missing" in found.problems

    repaired = await bare.apply()

    assert repaired.exit_code == 0
    assert repaired.problems == []
    text = await bare.topology("check")
    assert text.exit_code == 0
    assert text.stdout == "the broker has all that it should have\n"


async def test_drift_is_named_and_repaired_and_messages_stay(operator: Operator, place: Place) -> None:
    async with Rabbit.connect(place.amqp_url, service="test") as rabbit:
        for number in range(3):
            job = JobQueued(
                course="cs241",
                assignment="mp1",
                run_id="r",
                job_id=f"j{number}",
                generation=1,
                job_class=JobClass.BULK,
            )
            await rabbit.publish(JOBS, course_key("cs241", JobClass.BULK), job)
    vhost, api = operator.vhost, operator.management
    await api.delete("queues", vhost, DISPATCHER.name)
    other = {"pattern": "^none$", "apply-to": "queues", "definition": {"max-length": 5}}
    await api.put("policies", vhost, POLICY, body=other)
    await _unbind(api, vhost, RESULTS.bindings[1].exchange, RESULTS.name, RESULTS.bindings[1].key)

    found = await operator.check()

    assert found.exit_code == 1
    about_policy, *rest = sorted(found.problems, key=lambda problem: not problem.startswith("policy"))
    assert about_policy.startswith(f"policy {POLICY}: pattern is '^none$', not '^broadway\\\\.'")
    lost = [
        f"binding broadway.events -> {DISPATCHER.name} ({binding.key}) is missing" for binding in DISPATCHER.bindings
    ]
    assert sorted(rest) == sorted(
        [
            f"queue {DISPATCHER.name} is missing",
            f"binding broadway.events -> {RESULTS.name} (job.finished.#) is missing",
            *lost,
        ]
    )
    assert (await operator.check()).problems == found.problems, "a check changes nothing"

    assert (await operator.apply()).exit_code == 0

    assert (await operator.check()).problems == []
    async with Rabbit.connect(place.amqp_url, service="test") as rabbit:
        assert await rabbit.depth(BACKLOG) == 3


async def test_drift_that_only_deletion_would_repair_is_left_alone(operator: Operator) -> None:
    vhost, api = operator.vhost, operator.management
    await api.delete("queues", vhost, DEAD.name)
    await api.put("queues", vhost, DEAD.name, body={"durable": True, "arguments": {"x-queue-type": "classic"}})

    applied = await operator.apply()

    assert applied.exit_code == 1
    assert [(drift["kind"], drift["name"]) for drift in applied.report["drifts"]] == [("queue", DEAD.name)]
    assert f"is {{'x-queue-type': 'classic'}}, not {DEAD.arguments}" in applied.problems[0]
    checked = await operator.topology("check")
    assert "delete it when it is empty" in checked.stdout


async def test_unneeded_queues_are_not_drift(operator: Operator) -> None:
    gone = course_queue("cs999", JobClass.BULK)
    body = {"durable": True, "arguments": gone.arguments}
    await operator.management.put("queues", operator.vhost, gone.name, body=body)
    found = await operator.check()
    assert found.exit_code == 0
    assert found.report["left_over"] == [gone.name]


async def test_a_virtual_host_and_a_user_are_created(operator: Operator, management: Management) -> None:
    name = f"t{token_hex(4)}"
    url = str(URL(operator.environment["BROADWAY_AMQP_URL"]).with_user(name).with_password("pw").with_path(f"/{name}"))
    try:
        found = await operator.topology("check", "--json", "--shared", BROADWAY_AMQP_URL=url)
        assert found.exit_code == 1
        assert found.report["access"] == [f"virtual host {name} is missing"]

        made = await operator.topology("apply", "--shared", BROADWAY_AMQP_URL=url)

        assert made.exit_code == 0, made
        async with Rabbit.connect(url, service="test") as rabbit:
            assert await rabbit.has(JOBS)
    finally:
        await management.delete("vhosts", name)
        await management.delete("users", name)


async def test_the_broker_can_import_the_shown_definitions(operator: Operator, management: Management) -> None:
    shown = await operator.topology("show", "--json")
    assert shown.exit_code == 0
    definitions = json.loads(shown.stdout)
    names = {queue["name"] for queue in definitions["queues"]}
    assert {BACKLOG.name, ready_queue("gpu").name, ready_queue("default").name} <= names

    await management.post("definitions", operator.vhost, body={kind: definitions[kind] for kind in Kind})

    assert (await operator.topology("show")).stdout.count("\n") > len(names)


async def test_without_a_management_url_the_error_names_the_setting(bare: Operator) -> None:
    bare.environment.pop("BROADWAY_MANAGEMENT_URL")
    refused = await bare.topology("check", "--shared")
    assert refused.exit_code == 2
    assert "BROADWAY_MANAGEMENT_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("what", ["broker", "store"])
async def test_an_unavailable_part_is_reported_in_one_line(bare: Operator, what: str) -> None:
    nowhere = "127.0.0.1:9"
    variables = {"BROADWAY_MONGODB_DSN": f"mongodb://{nowhere}", "BROADWAY_MONGODB_TIMEOUT": "1"}
    if what == "broker":
        variables = {"BROADWAY_MANAGEMENT_URL": f"http://guest:hush-hush@{nowhere}"}
    failed = await bare.topology("check", **variables)
    assert failed.exit_code == 1
    assert nowhere in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert "hush-hush" not in failed.stderr


async def _unbind(api: Management, vhost: str, exchange: str, queue: str, key: str) -> None:
    bindings = await api.get("bindings", vhost, "e", exchange, "q", queue)
    properties = next(each["properties_key"] for each in bindings if each["routing_key"] == key)
    await api.delete("bindings", vhost, "e", exchange, "q", queue, properties)

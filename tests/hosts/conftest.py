"""A control plane, and hosts that reach it and the session's broker over a network."""

import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import randbelow, token_hex

import pytest
from faults.proxy import Link
from harness import Client, Place, free_port, until
from netns import Host, Network, Site
from processes import CLUSTER_TOKEN, OPERATOR_TOKEN, QUICK_DISPATCHER, processes
from servers import Node
from yarl import URL

from broadway.local.processes import LocalError, output
from broadway.management import Management
from broadway.messages.topology import grader_user

COUNT = 3


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    assert os.geteuid() == 0, "network namespaces need root"
    subnet, mark = f"10.{200 + randbelow(50)}.{randbelow(250)}", token_hex(3)
    bridge = f"bw{mark}"
    hosts = [Host(f"bw{mark}-{number}", f"bw{mark}w{number}") for number in range(1, COUNT + 1)]
    try:
        await output("ip", "link", "add", bridge, "type", "bridge")
        await output("ip", "address", "add", f"{subnet}.254/24", "dev", bridge)
        await output("ip", "link", "set", bridge, "up")
        for number, host in enumerate(hosts, 1):
            await _connect(host, bridge, f"{subnet}.{number}/24")
        yield Network(f"{subnet}.254", hosts)
    finally:
        for host in hosts:
            with contextlib.suppress(LocalError):
                await output("ip", "netns", "delete", host.name)
        with contextlib.suppress(LocalError):
            await output("ip", "link", "delete", bridge)


async def _connect(host: Host, bridge: str, address: str) -> None:
    await output("ip", "netns", "add", host.name)
    await output("ip", "link", "add", host.wire, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    await output("ip", "link", "set", host.wire, "master", bridge, "up")
    for command in (
        ("address", "add", address, "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("link", "set", "lo", "up"),
    ):
        await output("ip", "-n", host.name, *command)


@pytest.fixture
async def site(network: Network, place: Place, broker_node: Node, tmp_path: Path) -> AsyncIterator[Site]:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    at, port, broker = network.address, free_port(), URL(place.amqp_url)
    for_the_api = {
        "BROADWAY_MANAGEMENT_URL": broker_node.administration,
        "BROADWAY_TOKEN": CLUSTER_TOKEN,
        "BROADWAY_OPERATOR_TOKEN": OPERATOR_TOKEN,
    }
    async with Link.to(broker.host or "", broker.port or 0, at=at) as link:
        reachable = {"BROADWAY_AMQP_URL": str(broker.with_host(at).with_port(link.port))}
        async with (
            processes(tmp_path / "api", {**place.environment, **reachable, **for_the_api}) as control_plane,
            processes(tmp_path / "graders", {"BROADWAY_LOG_DIR": ""}) as graders,
            Client.connect(f"http://{at}:{port}") as client,
        ):
            own = ("--bind-addr", at, "--bind-port", str(port), "--course-config", str(courses))
            await control_plane.service("api", *own, *QUICK_DISPATCHER)
            await until(client.is_ready)
            yield Site(network, broker_node.administration, client, graders)
    async with Management.connect(broker_node.administration) as management:
        for host in network.hosts:
            await management.delete("users", grader_user(host.name))


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROADWAY_") and "TEST" not in name]:
        monkeypatch.delenv(name)

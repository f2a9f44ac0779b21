"""A control plane, and hosts that reach it over a network."""

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import randbelow, token_hex

import pytest
from harness import Client, free_port, until
from netns import Host, Network, Site
from processes import CLUSTER_TOKEN, OPERATOR_TOKEN, QUICK_DISPATCHER, processes

from broadway.local.broker import broker
from broadway.local.processes import LocalError, output

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
async def site(network: Network, mongodb_dsn: str, tmp_path: Path) -> AsyncIterator[Site]:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    name = f"t{token_hex(4)}"
    async with broker(tmp_path / "broker", address=network.address) as node:
        port = free_port()  # that the broker has not taken at this address
        environment = {
            "BROADWAY_AMQP_URL": node.amqp_url,
            "BROADWAY_MONGODB_PRIMARY": f"{name}_ag",
            "BROADWAY_MONGODB_LOGS": f"{name}_logs",
            "BROADWAY_LOG_DIR": "",
        }
        for_the_api = {
            "BROADWAY_MONGODB_DSN": mongodb_dsn,
            "BROADWAY_MANAGEMENT_URL": node.administration,
            "BROADWAY_TOKEN": CLUSTER_TOKEN,
            "BROADWAY_OPERATOR_TOKEN": OPERATOR_TOKEN,
        }
        async with (
            processes(tmp_path / "api", {**environment, **for_the_api}) as control_plane,
            processes(tmp_path / "graders", {"BROADWAY_LOG_DIR": ""}) as graders,
            Client.connect(f"http://{network.address}:{port}") as client,
        ):
            await control_plane.service(
                "api",
                *("--bind-addr", network.address, "--bind-port", str(port), "--course-config", str(courses)),
                *QUICK_DISPATCHER,
            )
            await until(client.is_ready)
            yield Site(network, node, client, graders)
        os.kill(node.pid, signal.SIGKILL)  # a clean stop takes 6 s


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROADWAY_") and "TEST" not in name]:
        monkeypatch.delenv(name)

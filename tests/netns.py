"""Hosts as network namespaces with an address each, on one bridge with the control plane."""

import sys
from dataclasses import dataclass

from harness import Client
from processes import CLUSTER_TOKEN, TESTS, Processes

from broadway.local.processes import output


@dataclass(frozen=True)
class Host:
    """A network namespace; ``wire`` is the end of its cable at the bridge."""

    name: str
    wire: str

    async def cut_off(self) -> None:
        """Take the link down: packets in both directions are lost without an error."""
        await output("ip", "link", "set", self.wire, "down")

    async def mend(self) -> None:
        await output("ip", "link", "set", self.wire, "up")


@dataclass(frozen=True)
class Network:
    """The control plane's address, and the hosts that reach it."""

    address: str
    hosts: list[Host]


@dataclass(frozen=True)
class Site:
    """A control plane that the hosts can reach, and the processes of their graders, which have their hosts' names.

    ``administration`` is the address of the broker's management API.
    """

    network: Network
    administration: str
    client: Client
    processes: Processes

    async def join(self, host: Host, *, slots: int = 2) -> None:
        """Start a host's grader with an operator's command line, but with a fake runtime."""
        program, name = str(TESTS / "programs" / "host_grader.py"), host.name
        line = (sys.executable, program, CLUSTER_TOKEN, name, "--api-host", str(self.client.http.base_url))
        more = ("--slots", str(slots), "--work-dir", str(self.processes.directory / "work" / name))
        await self.processes.start(name, *line, *more, HOST=name)

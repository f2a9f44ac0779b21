"""A separate bridge for a private container engine, which leaves the machine's network as it was."""

import asyncio
import json
import shlex
import shutil
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from pathlib import Path

from broadway.local.processes import LocalError, output

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
PROGRAMS = ("iptables", "ip6tables")
TABLES = ("filter", "nat", "raw")


@asynccontextmanager
async def bridge(name: str) -> AsyncIterator[str]:
    """Set up the bridge `name` and yield its address, which is the gateway of its containers.

    At the end, remove the bridge and every packet filter rule that names it. If no other engine's rules remain, also
    remove the engine's chains, and restore the settings of forwarding.
    """
    await _remove(name)
    before = _forwarding(), await _policy()
    address = await _add(name)
    try:
        yield address
    finally:
        if await _remove(name):
            await _restore(*before)


def _forwarding() -> str:
    return FORWARDING.read_text()


async def _policy() -> list[str]:
    """Return the arguments that set the current policy for forwarded packets."""
    return (await output("iptables", "--wait", "--list-rules", "FORWARD")).splitlines()[0].split()


async def _restore(forwarding: str, policy: list[str]) -> None:
    await asyncio.to_thread(FORWARDING.write_text, forwarding)
    await output("iptables", "--wait", *policy)


async def _add(name: str) -> str:
    subnet = await _subnet(zlib.crc32(name.encode()))
    address = str(subnet[1])
    # By default a bridge has the lowest hardware address of its ports, which come and go: containers that have cached
    # an earlier address of the gateway then lose their packets until they resolve it again.
    await output("ip", "link", "add", name, "address", _hardware_address(subnet[1]), "type", "bridge")
    await output("ip", "address", "add", f"{address}/{subnet.prefixlen}", "dev", name)
    await output("ip", "link", "set", name, "up")
    return address


def _hardware_address(address: IPv4Address) -> str:
    """Return a locally administered address that is made of an IP address, as Docker's are for containers."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed)


async def _subnet(seed: int) -> IPv4Network:
    """Return a /24 that overlaps no route of this machine. The search starts at the seed."""
    routes = json.loads(await output("ip", "-json", "-4", "route"))
    taken = [IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]
    for each in range(256):
        subnet = IPv4Network(f"10.213.{(seed + each) % 256}.0/24")
        if not any(map(subnet.overlaps, taken)):
            return subnet
    raise LocalError("no free subnet in 10.213.0.0/16 for a private container network")


async def _remove(name: str) -> bool:
    """Remove the bridge and its rules; return whether the engine's chains were removed, too."""
    if name in {each for _, each in socket.if_nameindex()}:
        await output("ip", "link", "delete", name)
    cleared = [await _clear(program, name) for program in PROGRAMS if shutil.which(program)]
    return any(cleared)


async def _clear(program: str, name: str) -> bool:
    """Remove the rules that name an interface, and the engines' chains unless another engine runs.

    Return whether chains were removed.
    """
    tables = [Table(program, table) for table in TABLES]
    for table in tables:
        await table.delete([rule for rule in await table.rules() if name in rule])
    rules = [await table.rules() for table in tables]
    if any(map(_serves_another, chain.from_iterable(rules))):
        return False
    cleared = [await table.drop_chains(listed) for table, listed in zip(tables, rules, strict=True)]
    return any(cleared)


def _serves_another(rule: list[str]) -> bool:
    """Return whether an engine's rule names an interface. With ours removed, it is another engine's."""
    return not {"-i", "-o"}.isdisjoint(rule) and any(word.startswith("DOCKER") for word in rule)


class Table:
    """One table of one packet filter. A rule is the list of arguments that adds it."""

    def __init__(self, program: str, table: str) -> None:
        self._command = (program, "--wait", "--table", table)

    async def rules(self) -> list[list[str]]:
        try:
            listed = await output(*self._command, "--list-rules")
        except LocalError:  # this kernel has no such table
            return []
        return [shlex.split(line) for line in listed.splitlines()]

    async def delete(self, rules: list[list[str]]) -> None:
        for rule in rules:
            await output(*self._command, "--delete", *rule[1:])

    async def drop_chains(self, rules: list[list[str]]) -> bool:
        """Drop the engines' chains and the rules that jump to them; return whether there were any chains."""
        chains = [rule[1] for rule in rules if rule[0] == "-N" and rule[1].startswith("DOCKER")]
        await self.delete([rule for rule in rules if rule[0] == "-A" and not set(chains).isdisjoint(rule)])
        for each in chains:
            await output(*self._command, "--delete-chain", each)
        return bool(chains)

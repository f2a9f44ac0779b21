"""Stages with a network: their containers reach the outside, but not one another."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from harness import until

from broadway.domain.assignment import Stage
from broadway.grader.docker import network
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.ports import ContainerError, Labels, Limits, Mount

Connect = Callable[..., AbstractAsyncContextManager[DockerContainers]]
BUSYBOX = "broadway-test-busybox:1"
PORT = 7000
SERVES = f"hostname -i >/job/address.new; mv /job/address.new /job/address; httpd -f -p {PORT} -h /job"
# Static busybox's wget crashes on some hosts, its nc does not.
ASKS = f"""
echo | nc -w 3 $1 {PORT} && exit 66
printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 $2 $3 || exit 67
"""


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def own_network(api: docker.APIClient) -> Iterator[str]:
    network.ensure(api)
    yield network.NAME
    with contextlib.suppress(docker.errors.NotFound):
        api.remove_network(network.NAME)


@contextlib.asynccontextmanager
async def outside(address: str) -> AsyncIterator[int]:
    """Serve on this host, at the address of the containers' gateway; yield the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\n\r\noutside\n")
            await writer.drain()

    async with await asyncio.start_server(serve, address, 0) as server:
        yield int(server.sockets[0].getsockname()[1])


def stage(*entrypoint: str) -> Stage:
    return Stage(image=BUSYBOX, entrypoint=[*entrypoint], networking=True, timeout=300, memory="64m")


def answers(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), timeout=1).close()
    except OSError:
        return False
    return True


async def apart(containers: DockerContainers, labels: Labels, directory: Path, gateway: str) -> tuple[int, str]:
    """Run a stage that serves and one that asks it, and return the exit code and the output of the latter."""
    mounts = [Mount("/job", directory, read_only=False)]
    serves = asyncio.create_task(containers.run(stage("sh", "-c", SERVES), mounts=mounts, labels=labels))
    try:
        await until(lambda: serves.done() or (directory / "address").exists())
        address = (directory / "address").read_text().strip()
        await until(lambda: answers(address))  # the host reaches it
        async with outside(gateway) as port:
            asks = stage("sh", "-c", ASKS, "sh", address, gateway, str(port))
            run = await containers.run(asks, mounts=mounts, labels=replace(labels, stage=1))
    finally:
        serves.cancel()
        await asyncio.wait({serves})
    return run.exit_code, run.output


def gateway_of(api: docker.APIClient, name: str) -> str:
    return str(api.inspect_network(name)["IPAM"]["Config"][0]["Gateway"])


async def test_containers_of_different_jobs_do_not_reach_one_another(
    connect: Connect, labels: Labels, directory: Path, api: docker.APIClient
) -> None:
    """With the default settings, whichever network they choose."""
    async with connect() as containers:
        chosen = await asyncio.to_thread(network.find, api)
        code, output = await apart(containers, labels, directory, gateway_of(api, chosen or network.DEFAULT))
    assert (code, output.split()[-1:]) == (0, ["outside"])


async def test_nor_do_they_in_a_network_of_our_own(
    connect: Connect, own_network: str, labels: Labels, directory: Path, api: docker.APIClient
) -> None:
    """It is the one for engines whose default network does not keep containers apart."""
    async with connect(limits=Limits(network=own_network)) as containers:
        code, output = await apart(containers, labels, directory, gateway_of(api, own_network))
    assert (code, output.split()[-1:]) == (0, ["outside"])


async def test_a_network_that_was_cleaned_up_is_made_again(
    connect: Connect, own_network: str, labels: Labels, directory: Path, api: docker.APIClient
) -> None:
    async with connect(limits=Limits(network=own_network)) as containers:
        api.remove_network(own_network)
        mounts = [Mount("/job", directory, read_only=False)]
        assert (await containers.run(stage("true"), mounts=mounts, labels=labels)).exit_code == 0
    assert api.inspect_network(own_network)["Options"]["com.docker.network.bridge.enable_icc"] == "false"


class Networks:
    """The networks of an engine, by name with their options; creation is refused if ``refuses`` is set."""

    def __init__(self, refuses: str = "", **options: dict[str, str]) -> None:
        self.networks, self.refuses = dict(options), refuses

    def inspect_network(self, name: str) -> dict[str, object]:
        if name not in self.networks:
            raise docker.errors.NotFound(name)
        return {"Options": self.networks[name]}

    def create_network(self, name: str, *, options: dict[str, str], **_: object) -> None:
        if self.refuses:
            raise docker.errors.APIError(self.refuses)
        self.networks[name] = options


APART, TOGETHER = ({"com.docker.network.bridge.enable_icc": value} for value in ("false", "true"))


@pytest.mark.parametrize(
    ("networks", "found"),
    [
        (Networks(bridge=APART), None),
        (Networks(bridge=TOGETHER), network.NAME),
        (Networks(bridge={}), network.NAME),
        (Networks(), None),
        (Networks(bridge=TOGETHER, **{network.NAME: APART}), network.NAME),
    ],
    ids=["apart", "together", "no option", "no default network", "exists"],
)
def test_the_default_network_is_used_only_if_it_keeps_containers_apart(networks: Networks, found: str | None) -> None:
    assert network.find(networks) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("networks", "reason"),
    [
        (Networks(bridge=TOGETHER, **{network.NAME: TOGETHER}), "lets containers reach one another: remove it"),
        (Networks("br_netfilter is missing", bridge=TOGETHER), "cannot be made: br_netfilter is missing"),
    ],
    ids=["is another", "is refused"],
)
def test_a_grader_does_not_start_without_such_a_network_unless_told_so(networks: Networks, reason: str) -> None:
    with pytest.raises(ContainerError, match=rf"{reason}.*--stage-network.*--no-network"):
        network.find(networks)  # type: ignore[arg-type]

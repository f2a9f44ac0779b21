import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aio_pika
import httpx2
import pytest
from erlang import call
from harness import PATIENCE

from broadway.local.broker import Broker, broker
from broadway.local.processes import MissingError, accepts
from broadway.local.supervisor import Supervisor

ERLANG = ("beam", "epmd", "erl_child_setup", "inet_gethost")


def erlang_processes() -> set[int]:
    """Return all Erlang processes that run now, including those of other nodes."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name.startswith(ERLANG) and rest.split()[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def of(directory: Path) -> set[int]:
    """Return the Erlang processes with this home directory."""
    home = f"HOME={directory.resolve()}\0".encode()
    found = set()
    for pid in erlang_processes():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if home in environment:
            found.add(pid)
    return found


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


async def publish(url: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True)
        await channel.default_exchange.publish(
            aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), queue.name
        )


async def take(url: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("kept", ensure=False)
        message = await queue.get()
        await message.ack()
        return message.body


def port(node: Broker) -> int:
    return int(node.amqp_url.rpartition(":")[2].partition("/")[0])


def again(directory: Path, node: Broker) -> contextlib.AbstractAsyncContextManager[Broker]:
    """Run a node again, with its data and at its ports."""
    return broker(directory, port=port(node), management_port=int(node.management_url.rpartition(":")[2]))


async def test_a_message_survives_a_kill_and_a_stop_leaves_no_process(tmp_path: Path) -> None:
    async with broker(tmp_path) as first:
        assert first.pid in of(tmp_path)
        auth = (first.username, first.password)
        async with httpx2.AsyncClient(base_url=first.management_url, auth=auth) as client:
            me = (await client.get("/api/whoami")).json()
        assert me["tags"] == ["administrator"]
        await publish(first.amqp_url, b"one")
        await call(first.pid, "mnesia sync_log []")  # a killed broker may lose a queue that is younger than a second
        os.kill(first.pid, signal.SIGKILL)
        assert "status -9" in str(await first.ended())
    await eventually(lambda: of(tmp_path) == set())

    async with again(tmp_path, first) as second:
        assert (second.amqp_url, second.node) == (first.amqp_url, first.node)
        assert await take(second.amqp_url) == b"one"
    assert of(tmp_path) == set()
    assert not await accepts(port(second))


@pytest.mark.long
async def test_a_message_survives_a_clean_stop(tmp_path: Path) -> None:
    async with broker(tmp_path) as first:
        await publish(first.amqp_url, b"one")
    async with again(tmp_path, first) as second:
        assert await take(second.amqp_url) == b"one"
        os.kill(second.pid, signal.SIGKILL)  # a clean stop takes 6 s


@pytest.mark.long
async def test_two_nodes_run_side_by_side_on_loopback_only(tmp_path: Path) -> None:
    async with Supervisor(print) as keeper:
        starts = [keeper.keep(partial(broker, tmp_path / name)) for name in "ab"]
        one, other = await asyncio.gather(*starts)
        assert one.node != other.node
        assert one.password != other.password
        for node in (one, other):
            assert listening(node.pid) == {"127.0.0.1"}
        assert not [pid for pid in erlang_processes() if is_epmd_of(pid, tmp_path)]
    assert (tmp_path / "a" / "password").stat().st_mode & 0o777 == 0o600
    assert of(tmp_path / "a") | of(tmp_path / "b") == set()


def listening(pid: int) -> set[str]:
    """Return the addresses on which a process accepts TCP connections."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(str(each.readlink()))
    found = set()
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address = fields[1].partition(":")[0]
                found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))))
    return found


def is_epmd_of(pid: int, directory: Path) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_text(errors="replace")
        return f"HOME={directory}" in environment and "epmd" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False


async def test_the_error_without_rabbitmq_names_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="install the package rabbitmq-server"):
        async with broker(tmp_path, servers=("no-such-server",)):
            pass


@pytest.mark.long
async def test_a_node_keeps_its_data_below_a_directory_with_a_blank(tmp_path: Path) -> None:
    async with broker(tmp_path / "a b") as first:
        await publish(first.amqp_url, b"one")
        await call(first.pid, "mnesia sync_log []")
        os.kill(first.pid, signal.SIGKILL)
        await first.ended()
    async with again(tmp_path / "a b", first) as second:
        assert await take(second.amqp_url) == b"one"
        os.kill(second.pid, signal.SIGKILL)

import asyncio
import io
import os
import shutil
import signal
import socket
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from harness import PATIENCE

from broadway.local.engine import Engine, engine, private
from broadway.local.processes import MissingError, output

NOWHERE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def mounts(part: str) -> set[str]:
    return {line for line in Path("/proc/mounts").read_text().splitlines() if part in line}


def places() -> set[Path]:
    return {*Path("/run").glob("broadway-*")}


async def traces() -> dict[str, object]:
    """Return everything that an engine of ours could leave on this machine."""
    rules = (await output("iptables", "--wait", "--list-rules")).splitlines()
    return {
        "links": {name for _, name in socket.if_nameindex() if name.startswith("bw-")},
        "mounts": mounts("/run/broadway-"),
        "rules": {rule for rule in rules if "bw-" in rule},
        "places": places(),
    }


@asynccontextmanager
async def client(own: Engine) -> AsyncIterator[docker.DockerClient]:
    connected = await asyncio.to_thread(docker.DockerClient, base_url=own.docker_host)
    try:
        yield connected
    finally:
        connected.close()


def busybox() -> bytes:
    """An image of one file, as a tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(str(shutil.which("busybox")), "bin/busybox")
    return archive.getvalue()


def start(own: docker.DockerClient, command: str) -> Container:
    return own.containers.run("local/busybox", ["/bin/busybox", *command.split()], detach=True)


def run(own: docker.DockerClient, command: str) -> bytes:
    """Run a container to its end and return its output.

    The output is read at the end: following it may miss the last lines.
    """
    container = start(own, command)
    try:
        assert container.wait()["StatusCode"] == 0
        return container.logs()
    finally:
        container.remove(force=True)


def gateway(own: docker.DockerClient) -> str:
    return run(own, "ip route").split()[2].decode()


async def answering(server: socket.socket) -> None:
    connection, _ = await asyncio.get_running_loop().sock_accept(server)
    with connection:
        await asyncio.get_running_loop().sock_sendall(connection, b"hello")


async def test_a_private_engine_runs_containers_and_keeps_only_its_images_even_if_it_is_killed(tmp_path: Path) -> None:
    before = await traces()
    async with engine(tmp_path, env=NOWHERE) as own, client(own) as connected:
        assert own.private
        await asyncio.to_thread(connected.api.import_image_from_data, busybox(), "local/busybox")
        address = await asyncio.to_thread(gateway, connected)
        with socket.create_server((address, 0)) as server:
            server.setblocking(False)
            port = server.getsockname()[1]
            reply, _ = await asyncio.gather(
                asyncio.to_thread(run, connected, f"nc -w 60 {address} {port}"), answering(server)
            )
        assert reply == b"hello"
        left_running = await asyncio.to_thread(start, connected, "sleep 1000")
        await asyncio.to_thread(left_running.reload)
        pid = left_running.attrs["State"]["Pid"]
        assert pid
    assert not is_alive(pid)
    assert await traces() == before
    assert mounts(str(tmp_path)) == set()

    async with private(tmp_path) as own, client(own) as connected:
        assert await asyncio.to_thread(connected.containers.list, all=True) == []
        left_running = await asyncio.to_thread(start, connected, "sleep 1000")  # its image was kept
        await asyncio.to_thread(left_running.reload)
        pid = left_running.attrs["State"]["Pid"]
        assert own.child is not None
        os.kill(own.child.pid, signal.SIGKILL)
        assert "status -9" in str(await own.ended())
    await eventually(lambda: not is_alive(pid))
    assert await traces() == before


async def test_a_running_engine_is_used(tmp_path: Path) -> None:
    place = tmp_path / "docker.sock"

    async def pong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")
        await writer.drain()
        writer.close()

    host = f"unix://{place}"
    async with (
        await asyncio.start_unix_server(pong, place),
        engine(tmp_path, env={"DOCKER_HOST": host}) as found,
    ):
        assert (found.docker_host, found.private) == (host, False)


async def test_the_error_without_docker_names_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"install docker\.io"):
        async with engine(tmp_path, env=NOWHERE, needed={"no-such-dockerd": "docker.io"}):
            pass


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

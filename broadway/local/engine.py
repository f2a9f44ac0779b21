"""A container engine: the machine's own if it runs, or else a private one."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from broadway.local.network import bridge
from broadway.local.processes import Child, ChildError, MissingError, absolute, child, output

DEFAULT = "unix:///var/run/docker.sock"
HYBRID = Path("/sys/fs/cgroup/unified")  # mount point of cgroups v2 on hosts that use v1
NEEDED: Mapping[str, str] = {"dockerd": "docker.io", "iptables": "iptables", "ip": "iproute2"}


@dataclass(frozen=True)
class Engine:
    """A Docker Engine that answers at `docker_host`; `child` is set for a private engine."""

    docker_host: str
    child: Child | None = None

    @property
    def private(self) -> bool:
        return self.child is not None

    @property
    def pid(self) -> int:
        """The process id of a private engine's daemon."""
        assert self.child is not None  # noqa: S101 - only a private engine is our child
        return self.child.pid

    async def ended(self) -> ChildError:
        """Wait for the end of a private engine, and return the error; for the machine's own engine wait forever."""
        while self.child is None:
            await asyncio.Event().wait()
        return await self.child.ended()


@asynccontextmanager
async def engine(
    directory: Path,
    *,
    log: Path | None = None,
    env: Mapping[str, str] = os.environ,
    within: float = 60,
    needed: Mapping[str, str] = NEEDED,
) -> AsyncIterator[Engine]:
    """Yield the engine at DOCKER_HOST or at the default socket, or else run a private one on `directory`.

    `needed` maps the programs that a private engine needs to their packages.

    Raises MissingError if these packages or root's rights are missing, ChildError if the engine is not ready `within`
    seconds.
    """
    host = env.get("DOCKER_HOST", DEFAULT)
    if await answers(host):
        yield Engine(host)
        return
    if lacking := _lacking(host, needed):
        raise MissingError(lacking)
    async with private(directory, log=log, within=within) as own:
        yield own


@asynccontextmanager
async def private(home: Path, *, log: Path | None = None, within: float = 60) -> AsyncIterator[Engine]:
    """Run an engine that keeps its images in `home`; all else is removed when it ends."""
    async with ground(home) as place, daemon(place, log=log, within=within) as running:
        try:
            yield running
        finally:
            await _empty(running.docker_host)


@dataclass(frozen=True)
class Ground:
    """The directories and the network of an engine, whose daemon may start there more than once."""

    home: Path
    key: str

    @property
    def run(self) -> Path:
        return Path("/run", f"broadway-{self.key}")  # a socket's path must be short

    @property
    def network(self) -> str:
        return f"bw-{self.key}"

    @property
    def docker_host(self) -> str:
        return f"unix://{self.run}/docker.sock"


@asynccontextmanager
async def ground(home: Path) -> AsyncIterator[Ground]:
    """Set up the directories and the network of an engine; at the end remove all but the images in `home`."""
    home = absolute(home)
    place = Ground(home, sha256(bytes(home)).hexdigest()[:8])
    async with _swept(place.run, home), bridge(place.network):
        yield place


@asynccontextmanager
async def daemon(place: Ground, *, log: Path | None = None, within: float = 60) -> AsyncIterator[Engine]:
    """Run the daemon alone; `ground` cleans up after its containers."""
    log = log or place.home / "engine.log"
    async with child("dockerd", _command(place), log=log, grace=30) as running:
        await running.until(partial(answers, place.docker_host), within=within)
        yield Engine(place.docker_host, running)


async def answers(host: str) -> bool:
    """Return whether a Docker Engine answers at `host`, an address as in DOCKER_HOST."""
    try:
        async with _client(host) as client:
            return (await client.get("/_ping")).text == "OK"
    except (httpx2.TransportError, httpx2.InvalidURL):
        return False


async def describe(host: str) -> dict[str, Any]:
    """Return an engine's description of itself, as `docker info` prints it.

    Raises httpx2.HTTPError if no engine answers, httpx2.InvalidURL if the address is invalid.
    """
    async with _client(host) as client:
        answer = await client.get("/info")
        info: dict[str, Any] = answer.raise_for_status().json()
        return info


def _client(host: str) -> httpx2.AsyncClient:
    scheme, _, place = host.partition("://")
    if scheme == "unix":
        return httpx2.AsyncClient(base_url="http://engine", transport=httpx2.AsyncHTTPTransport(uds=place), timeout=30)
    return httpx2.AsyncClient(base_url=f"http://{place}", timeout=5)


async def unavailable(env: Mapping[str, str] = os.environ, needed: Mapping[str, str] = NEEDED) -> str:
    """Return the reason for which `engine` would fail; empty if it finds an engine or can start its own."""
    host = env.get("DOCKER_HOST", DEFAULT)
    return "" if await answers(host) else _lacking(host, needed)


def _lacking(host: str, needed: Mapping[str, str]) -> str:
    missing = sorted({package for program, package in needed.items() if shutil.which(program) is None})
    if missing:
        return f"no Docker Engine answers at {host}: start one, or install {', '.join(missing)}"
    if os.geteuid() != 0:
        return f"no Docker Engine answers at {host}, and only root can run a private one"
    return ""


def _command(place: Ground) -> list[str]:
    return [
        *("dockerd", "--host", place.docker_host, "--bridge", place.network, "--icc=false"),
        *("--data-root", str(place.home / "data"), "--exec-root", str(place.run / "exec")),
        *("--pidfile", str(place.run / "pid"), "--config-file", str(place.run / "daemon.json")),
        *("--live-restore=false", "--log-level", "warn"),
    ]


async def _empty(host: str) -> None:
    """Remove all containers and networks, so that the engine need not wait for them when it stops."""
    with suppress(httpx2.HTTPError):
        async with _client(host) as client:
            for container in (await client.get("/containers/json", params={"all": True})).json():
                await client.delete(f"/containers/{container['Id']}", params={"force": True, "v": True})
            await client.post("/networks/prune")


@asynccontextmanager
async def _swept(run: Path, home: Path) -> AsyncIterator[None]:
    """Remove the processes, mounts and files of an engine at the end, however it ended."""
    _make(run)
    try:
        yield
    finally:
        _kill(_processes(str(run / "exec")))
        for mount in mounts_below(run, home):
            await output("umount", "--lazy", mount)
        shutil.rmtree(run, ignore_errors=True)


def _make(run: Path) -> None:
    run.mkdir(mode=0o700, exist_ok=True)
    # A file of our own, so that the engine does not read the machine's.
    (run / "daemon.json").write_text(json.dumps({"runtimes": _runtimes(run)}))


def _runtimes(run: Path) -> dict[str, Any]:
    """Return this machine's runtimes besides the engine's own: crun, and gVisor, here without a network."""
    arguments = {"runsc": ["--network=none"], "crun": []}
    found = {name: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin") for name in arguments}
    if found["crun"] and HYBRID.is_mount():
        found["crun"] = _without_hybrid(found["crun"], run / "crun")
    return {name: {"path": path, "runtimeArgs": arguments[name]} for name, path in found.items() if path}


def _without_hybrid(crun: str, program: Path) -> str:
    """Write a wrapper of crun for hosts with cgroups v1 and v2, which crun refuses; return its path."""
    program.write_text(f"""#!/bin/sh
exec unshare --mount sh -c 'umount {HYBRID} && exec {crun} "$@"' crun "$@"
""")
    program.chmod(0o755)
    return str(program)


def _kill(processes: set[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes(marker: str) -> set[int]:
    """Return the processes whose command line has `marker` in it, and all their descendants."""
    parents = {int(each.name): _parent(each) for each in Path("/proc").glob("[0-9]*")}
    found = {pid for pid in parents if marker in _command_line(pid)} - {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _parent(process: Path) -> int:
    with suppress(OSError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""


def mount_points(table: str) -> list[str]:
    """Return the mount points in a table such as ``/proc/mounts``, which writes blanks as octal numbers."""
    fields = (line.split()[1] for line in table.splitlines())
    return [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field) for field in fields]


def mounts_below(*roots: Path) -> list[str]:
    """Return the mount points below `roots`, the deepest first."""
    points = mount_points(Path("/proc/mounts").read_text())
    below = [point for point in points if any(Path(point).is_relative_to(root) for root in roots)]
    return sorted(below, key=len, reverse=True)

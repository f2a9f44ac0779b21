"""All runtimes, the image of the submissions, and limits on the leftovers of a case."""

import contextlib
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import docker
import pytest
from hostile.corpus import LIMITS, SIZE
from images import HOSTILE, hostile

from broadway.grader.docker.containers import DockerContainers
from broadway.grader.grading.artifacts import Collection
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import Graded, grade
from broadway.grader.oci.choice import OCI as NAME
from broadway.grader.oci.containers import OciContainers
from broadway.grader.oci.host import STATE
from broadway.grader.ports import Containers, Labels
from broadway.grader.sandbox.users import Users
from broadway.local.engine import Engine

# The allowed growth of the engine since before the first case.
MEMORY_GROWTH = 50 * 1024 * 1024  # bytes of its daemon
DISK_GROWTH = 1024 * 1024  # bytes

DATA = Path(".broadway/engine/data")
TICKS = os.sysconf("SC_CLK_TCK")  # per second


@dataclass(frozen=True)
class Footprint:
    """The resources of an engine: its daemon's memory in bytes, its layers, and its volumes."""

    memory: int = 0
    layers: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, engine: Engine, api: docker.APIClient) -> Self:
        if not engine.private:  # a shared engine also does other work
            return cls()
        (resident,) = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{engine.pid}/status").read_text(), re.MULTILINE)
        layers = frozenset(path.name for path in (DATA / "overlay2").glob("[0-9a-f]*"))
        volumes = frozenset(volume["Name"] for volume in api.volumes()["Volumes"] or [])
        return cls(int(resident) * 1024, layers - _honest_layers(api), volumes)

    def growth(self, since: "Footprint") -> Iterator[str]:
        """Yield each growth beyond the limits."""
        if self.memory > since.memory + MEMORY_GROWTH:
            yield f"the daemon has grown from {since.memory} to {self.memory} bytes"
        for kind, more in (("layer", self.layers - since.layers), ("volume", self.volumes - since.volumes)):
            yield from (f"{kind} {name}" for name in more)


def data_of(engine: Engine) -> int:
    """Return the size of a private engine's data in bytes, and 0 for a shared engine."""
    if not engine.private:
        return 0
    # Files that are being removed vanish while du runs.
    printed = subprocess.run(["du", "-sxk", str(DATA)], capture_output=True, text=True, check=False).stdout
    return int(printed.split()[0]) * 1024


def _honest_layers(api: docker.APIClient) -> frozenset[str]:
    """Return the layers of the containers of honest jobs, which run beside the cases."""
    found = set()
    for each in api.containers(all=True, filters={"label": "io.broadway.grader=honest"}):
        with contextlib.suppress(docker.errors.NotFound):
            # A container that is being removed has no layer.
            data = api.inspect_container(each["Id"])["GraphDriver"]["Data"] or {}
            layer = Path(data.get("UpperDir", "")).parent.name
            found |= {layer, f"{layer}-init"}
    return frozenset(found)


@dataclass(frozen=True)
class Bench:
    """Runs jobs on one runtime. ``owner`` labels their containers, and names their directories' parent."""

    containers: Containers
    work: Path
    api: docker.APIClient
    engine: Engine
    before: Footprint
    data_before: int
    users: Users
    directories: dict[str, Directories] = field(default_factory=dict)  # by owner
    owner: str = f"hostile-{token_hex(4)}"  # not that of a session that was killed, whose containers may be left

    @property
    def honest(self) -> "Bench":
        """A bench for jobs beside the cases, whose containers and directories do not count as leftovers."""
        return replace(self, owner="honest")

    async def run(self, stages: list[dict[str, Any]], collection: Collection | None = None) -> Graded:
        name = f"{self.owner}-{token_hex(6)}"
        with self.users.taken() as user:
            labels = Labels(self.owner, "this-life", f"job-{name}", name, 0, user=user)
            return await grade(
                stages,
                containers=self.containers,
                directories=self._directories,
                labels=labels,
                collection=collection,
            )

    @property
    def _directories(self) -> Directories:
        """The directories of this owner's jobs: each may get that of an earlier one."""
        return self.directories.setdefault(self.owner, Directories(self.work / self.owner, SIZE))

    def left(self) -> list[str]:
        """Return the leftovers of jobs: containers, mounts, directories, processes, and the growth of the engine."""
        engines = self.api.containers(all=True, filters={"label": f"io.broadway.grader={self.owner}"})
        containers = [*(each["Id"] for each in engines), *map(str, STATE.glob(f"*{self.owner}-*"))]
        kept, below = self._directories.kept, f"{self.work}/{self.owner}/"
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if below in line]
        mounts = [place for place in mounted if Path(place) not in kept]
        directories = [str(path) for path in Path(below).glob("*") if path not in kept]
        directories += [str(path) for directory in kept for path in directory.iterdir()]
        grown = Footprint.of(self.engine, self.api).growth(self.before)
        return [*containers, *mounts, *directories, *self._processes(), *grown]

    def has_kept_data(self) -> bool:
        """Return True if the engine has kept more data than before the first case. The check is slow."""
        return data_of(self.engine) > self.data_before + DISK_GROWTH

    def _processes(self) -> Iterator[str]:
        """Yield the processes in the control groups of our containers."""
        for path in Path("/proc").glob("[0-9]*/cgroup"):
            with contextlib.suppress(OSError):
                if re.search(f"/broadway(-oci)?/[^/]*{self.owner}-", path.read_text()):
                    yield str(path.parent)

    def engine_seconds(self) -> float:
        """Return the CPU time in seconds that the engine's daemon and its child daemons have used so far."""
        if not self.engine.private:
            return 0.0
        daemons = [str(self.engine.pid), *Path(f"/proc/{self.engine.pid}/task").glob("*/children")]
        pids = [daemons[0], *(pid for path in daemons[1:] for pid in Path(path).read_text().split())]
        return sum(_cpu_ticks(pid) for pid in pids) / TICKS


def _cpu_ticks(pid: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


@dataclass(frozen=True)
class Canary:
    """A file of the host that no case may read or change. To a grader that read it, it would be valid results."""

    path: Path
    before: os.stat_result

    @classmethod
    def put(cls, directory: Path) -> Self:
        path = directory / "host-canary"
        path.write_text('{"score": 1, "output": "secret of the host"}')
        path.chmod(0o640)
        os.utime(path, (0, 1))
        return cls(path, path.stat())

    @property
    def harm(self) -> list[str]:
        """The changes and reads since it was put there."""
        now = self.path.stat()
        kept = ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_ctime_ns")
        changed = [f"{name} changed" for name in kept if getattr(now, name) != getattr(self.before, name)]
        return changed + (["read"] if now.st_atime_ns != self.before.st_atime_ns else [])


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary.put(tmp_path)


@pytest.fixture(scope="session")
def hostile_image(api: docker.APIClient) -> str:
    repository, _, tag = HOSTILE.partition(":")
    api.import_image_from_data(hostile(), repository=repository, tag=tag)
    return HOSTILE


Open = Callable[..., contextlib.AbstractAsyncContextManager[Bench]]


@pytest.fixture(scope="session")
def open_bench(
    docker_engine: Engine, api: docker.APIClient, hostile_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Open:
    assert hostile_image
    docker_host, before, data_before = (
        docker_engine.docker_host,
        Footprint.of(docker_engine, api),
        data_of(docker_engine),
    )

    @contextlib.asynccontextmanager
    async def open_bench(runtime: str | None = None) -> AsyncIterator[Bench]:
        work = tmp_path_factory.mktemp("work")
        limits = replace(LIMITS, runtime=runtime)
        runtimes = OciContainers if runtime == NAME else DockerContainers
        async with runtimes.connect(slots=4, limits=limits, docker_host=docker_host, work_dir=work) as containers:
            users = Users()
            bench = Bench(containers, work, api, docker_engine, before, data_before, users)
            yield bench
            users.close()
            for directories in bench.directories.values():
                directories.close()

    return open_bench

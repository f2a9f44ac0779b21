"""All runtimes, the image of the submissions, and what a case may leave."""

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import docker
import pytest
from images import HOSTILE, hostile

from broadway.grader.containers import DockerContainers
from broadway.grader.grade import Graded, grade
from broadway.grader.oci import NAME, OciContainers
from broadway.grader.oci.host import STATE
from broadway.grader.stages import Containers, Labels, Limits
from broadway.grader.workspace import Size
from broadway.local.engine import Engine

LIMITS = {"output": 256 * 1024, "file_size": 8 * 1024 * 1024, "pids": 64, "disk": 32 * 1024 * 1024}
SIZE = Size(size=16 * 1024 * 1024, inodes=2000)


ENGINE_GROWTH = 96 * 1024 * 1024  # bytes of memory that the engine's daemon may have more than before the first case
LAYERS = Path(".broadway/engine/data/overlay2")


@dataclass(frozen=True)
class Footprint:
    """What an engine takes: its daemon's memory in bytes, and how many layers of images and containers it keeps."""

    memory: int
    layers: int

    @classmethod
    def of(cls, engine: Engine) -> Self:
        if not engine.private:  # somebody else's, which does other things too
            return cls(0, 0)
        (resident,) = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{engine.pid}/status").read_text(), re.MULTILINE)
        return cls(int(resident) * 1024, len(list(LAYERS.glob("[0-9a-f]*"))))


@dataclass
class Bench:
    """Runs jobs on one runtime."""

    containers: Containers
    work: Path
    api: docker.APIClient
    engine: Engine
    before: Footprint

    async def run(self, stages: list[dict[str, Any]]) -> Graded:
        name = token_hex(6)
        labels = Labels("hostile", "this-life", f"job-{name}", name, 0)
        return await grade(stages, containers=self.containers, directory=self.work / name, labels=labels, size=SIZE)

    def left(self) -> list[str]:
        """What is left of jobs: containers, mounts, directories, groups of processes, and what the engine has kept."""
        engines = self.api.containers(all=True, filters={"label": "io.broadway.grader=hostile"})
        containers = [*(each["Id"] for each in engines), *(each.name for each in STATE.glob("*"))]
        mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if f"{self.work}/" in line]
        directories = [str(path) for path in self.work.iterdir() if path.is_dir() and path.name != "images"]
        return [*containers, *mounts, *directories, *_processes(), *self._grown()]

    def _grown(self) -> Iterator[str]:
        now = Footprint.of(self.engine)
        if now.memory > self.before.memory + ENGINE_GROWTH:
            yield f"the daemon has grown from {self.before.memory} to {now.memory} bytes"
        if now.layers > self.before.layers:
            yield f"{now.layers - self.before.layers} layers"


def _processes() -> Iterator[str]:
    """Processes in the control group of a container of ours."""
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if re.search("/broadway(-oci)?/", path.read_text()):
                yield str(path.parent)


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
    docker_host, before = docker_engine.docker_host, Footprint.of(docker_engine)

    @contextlib.asynccontextmanager
    async def open_bench(runtime: str | None = None) -> AsyncIterator[Bench]:
        work = tmp_path_factory.mktemp("work")
        limits = Limits(**LIMITS, runtime=runtime)
        runtimes = OciContainers if runtime == NAME else DockerContainers
        async with runtimes.connect(slots=4, limits=limits, docker_host=docker_host, work_dir=work) as containers:
            yield Bench(containers, work, api, docker_engine, before)

    return open_bench

"""Ways to run a stage or a job: Broadway's runtimes, `docker run`, and the original's executor."""

import asyncio
import contextlib
import itertools
import os
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import docker

from benchmarks.images import BUSYBOX
from broadway.domain.assignment import Stage
from broadway.domain.job import Outcome
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import grade
from broadway.grader.oci.choice import OCI as NAME
from broadway.grader.oci.containers import OciContainers
from broadway.grader.ports import Containers, Labels, Limits, Mount
from broadway.grader.sandbox.profile import CAPABILITIES

SLOTS = 8
MEMORY = "100m"

# The options of Broadway's standard profile, as flags of `docker run`.
_OPTIONS = (
    *("--network", "none", "--memory", MEMORY, "--memory-swap", MEMORY, "--pids-limit", "256", "--shm-size", "64m"),
    *("--ipc", "private", "--cgroupns", "private", "--security-opt", "no-new-privileges:true", "--cap-drop", "ALL"),
    *(option for name in CAPABILITIES for option in ("--cap-add", name)),
    *("--ulimit", "core=0:0", "--ulimit", f"fsize={2**30}:{2**30}", "--ulimit", "nofile=1024:16384"),
    *("--oom-score-adj", "500", "--no-healthcheck", "--log-driver", "none"),
)


class FailedError(RuntimeError):
    """A stage has failed."""


class Runtime(Protocol):
    """A way to run containers."""

    async def stage(self, *command: str) -> None:
        """Run a command in a container, and remove the container.

        Raises:
            FailedError: The command has not succeeded.
        """

    async def job(self, *commands: Sequence[str]) -> None:
        """Run commands one after another, in containers that share a directory.

        Raises:
            FailedError: A command has not succeeded.
        """


@dataclass(frozen=True, slots=True)
class Broadway:
    """A grader's own code on one of its runtimes."""

    containers: Containers
    directory: Path
    directories: Directories
    strict: bool = False
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def stage(self, *command: str) -> None:
        """See ``Runtime``."""
        stage = Stage.model_validate(self._stage(command))
        shared = Mount("/job/out" if self.strict else "/job", self.directory, read_only=False)
        run = await self.containers.run(stage, mounts=[shared], labels=self._labels())
        if run.exit_code:
            raise FailedError(f"{command[0]}: exit code {run.exit_code}")

    async def job(self, *commands: Sequence[str]) -> None:
        """See ``Runtime``."""
        labels = self._labels()
        graded = await grade(
            [self._stage(command) for command in commands],
            containers=self.containers,
            directories=self.directories,
            labels=labels,
        )
        if graded.outcome is not Outcome.SUCCEEDED:
            raise FailedError(graded.reason)

    def _stage(self, command: Sequence[str]) -> dict[str, object]:
        trust = {"untrusted": True, "write": ["out"]} if self.strict else {}
        return {"image": BUSYBOX, "entrypoint": list(command), "memory": MEMORY, "networking": False, **trust}

    def _labels(self) -> Labels:
        number = next(self._numbers)
        return Labels("bench", f"bench.{os.getpid()}", str(number), f"bench-{os.getpid()}-{number}", stage=0)


@dataclass(frozen=True, slots=True)
class DockerRun:
    """`docker run --rm --network none`, with the options of Broadway's containers."""

    docker_host: str
    directory: Path

    async def stage(self, *command: str) -> None:
        """See ``Runtime``."""
        first, *arguments = command
        flags = (*_OPTIONS, "--volume", f"{self.directory}:/job", "--entrypoint", first)
        process = await asyncio.create_subprocess_exec(
            *("docker", "--host", self.docker_host, "run", "--rm", *flags, BUSYBOX, *arguments),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        if code := await process.wait():
            raise FailedError(f"docker run: exit code {code}")

    async def job(self, *commands: Sequence[str]) -> None:
        """See ``Runtime``."""
        for command in commands:
            await self.stage(*command)


@dataclass(frozen=True, slots=True)
class Original:
    """The steps of illinois-cs241/broadway for each stage, with the SDK: run detached, wait, read the log, remove."""

    client: docker.DockerClient
    directory: Path
    networking: bool

    async def stage(self, *command: str) -> None:
        """See ``Runtime``."""
        await asyncio.to_thread(self._run, list(command))

    async def job(self, *commands: Sequence[str]) -> None:
        """See ``Runtime``."""
        for command in commands:
            await self.stage(*command)

    async def starting(self, *command: str) -> float:
        """Return the seconds that the start of a container takes, after its creation."""
        return await asyncio.to_thread(self._start, list(command))

    def _start(self, command: list[str]) -> float:
        container = self.client.containers.create(BUSYBOX, **self._options(command))
        try:
            begun = time.perf_counter()
            container.start()
            started = time.perf_counter()
            container.wait()
        finally:
            container.remove(force=True)
        return started - begun

    def _options(self, command: list[str]) -> dict[str, Any]:
        return {
            "entrypoint": command,
            "mem_limit": MEMORY,
            "network_disabled": not self.networking,
            "volumes": {str(self.directory): {"bind": "/job", "mode": "rw"}},
        }

    def _run(self, command: list[str]) -> None:
        container = self.client.containers.run(BUSYBOX, detach=True, **self._options(command))
        try:
            if code := container.wait()["StatusCode"]:
                raise FailedError(f"exit code {code}")
            container.logs(stdout=True, stderr=True, timestamps=True)
        finally:
            container.remove(force=True)


@contextlib.asynccontextmanager
async def broadway(name: str, docker_host: str, directory: Path, *, strict: bool = False) -> AsyncIterator[Runtime]:
    """Open a grader's runtime by its name for ``--runtime``: ``oci``, or a runtime of the engine."""
    async with _connected(name, docker_host, directory) as containers:
        await containers.ensure_images([BUSYBOX])
        with contextlib.closing(Directories(directory / f"jobs-{name}")) as directories:
            yield Broadway(containers, directory, directories, strict=strict)


def _connected(name: str, docker_host: str, directory: Path) -> AbstractAsyncContextManager[Containers]:
    runtimes = OciContainers if name == NAME else DockerContainers
    limits = Limits(runtime=name)
    return runtimes.connect(slots=SLOTS, limits=limits, docker_host=docker_host, work_dir=directory)


@contextlib.asynccontextmanager
async def original(docker_host: str, directory: Path, *, networking: bool) -> AsyncIterator[Original]:
    """Open the original's executor, with the default network or without a network."""
    client = await asyncio.to_thread(docker.DockerClient, base_url=docker_host, max_pool_size=SLOTS)
    try:
        yield Original(client, directory, networking)
    finally:
        client.close()

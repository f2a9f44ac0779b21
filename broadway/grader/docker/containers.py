"""Stages as containers of a Docker Engine, 20.10 or later."""

import asyncio
import concurrent.futures
import contextlib
import errno
import itertools
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import structlog
from docker.errors import ImageNotFound

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.grader.docker import network, trial
from broadway.grader.docker.container import Container, remove
from broadway.grader.docker.engine import ENGINE_ERRORS, Engine, connect, new_client, read_features
from broadway.grader.docker.faults import fault
from broadway.grader.docker.images import PULLS, Images
from broadway.grader.docker.owners import owned_containers
from broadway.grader.docker.records import record_of
from broadway.grader.ports import ContainerError, KilledFor, Labels, Limits, Mount, Owner, StageRun, Upcoming
from broadway.grader.sandbox.cgroups import Meter, remove_abandoned
from broadway.grader.sandbox.disk_watch import DiskWatch, wait_until_due
from broadway.grader.sandbox.engine_features import EngineFeatures
from broadway.grader.sandbox.output import OutputLog
from broadway.grader.sandbox.profile import container_options, disk_quota, hosts_file, without_volumes
from broadway.grader.sandbox.programs import (
    LATE_CODES,
    Program,
    check_trial,
    never_started,
    students_fault,
    with_late_fault,
)
from broadway.grader.sandbox.start_gate import StartGate
from broadway.runtime.cancellation import end, finish
from broadway.runtime.threads import in_own_thread

log = structlog.get_logger(__name__)

KILL_GRACE = 30.0  # seconds that a killed container may take to end
CPUS_OF_A_START = 2  # CPUs that the start of a container keeps busy, in the engine, its helpers and the runtime
PING_WITHIN = 5  # seconds
_NAME = "broadway-"  # the prefix of every container's name

T = TypeVar("T")


class DockerContainers:
    """The port ``Containers`` for a Docker Engine."""

    def __init__(
        self,
        engine: Engine,
        images: Images,
        *,
        slots: int,
        limits: Limits,
        hosts: Path | None,
        features: EngineFeatures,
    ) -> None:
        self._slots = slots
        self._features = features
        self._engine = engine
        self._images = images
        self._limits = limits
        self._hosts = hosts
        self._prepared: dict[str, _Prepared] = {}
        self._removals: set[asyncio.Task[None]] = set()
        self._leftovers: set[asyncio.Task[None]] = set()
        self._start_gate = StartGate(max(1, features.cpus // CPUS_OF_A_START))

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        *,
        slots: int,
        limits: Limits,
        docker_host: str | None = None,
        work_dir: Path | None = None,
        refresh_interval: float = 600.0,
        pull_timeout: float = 600.0,
    ) -> AsyncIterator[Self]:
        """Connect to the engine at ``docker_host``, else at the environment's ``DOCKER_HOST``, else on this host.

        ``slots`` stages may run at a time. ``work_dir`` is a directory with the same path on the engine's host; a hosts
        file is written there, since localhost would not resolve in stages without a network. Times are in seconds.

        Raises:
            ContainerError: No engine answers.
        """
        threads = concurrent.futures.ThreadPoolExecutor(4 * slots + 2, thread_name_prefix="containers")
        with contextlib.ExitStack() as stack:
            stack.callback(threads.shutdown, wait=False, cancel_futures=True)
            client = await finish(in_own_thread(partial(connect, docker_host, pool=4 * slots + 2), name="engine"))
            stack.callback(client.close)
            puller = new_client(
                docker_host, version=client.api_version, timeout=math.ceil(pull_timeout), pool=PULLS + 1
            )
            stack.callback(puller.close)
            engine = Engine(client, threads)
            features = await engine.call(read_features, client, limits)
            images = Images(
                *(engine, puller, features),
                refresh_interval=refresh_interval,
                pull_timeout=pull_timeout,
                allow_local_registries=limits.allow_local_registries,
            )
            hosts = hosts_file(work_dir) if work_dir else None
            if limits.allow_network and not limits.network:
                limits = replace(limits, network=await engine.call(network.find, client))
            containers = cls(engine, images, slots=slots, limits=limits, hosts=hosts, features=features)
            try:
                yield containers
            finally:
                await finish(containers.close())

    async def close(self) -> None:
        """Stop the background tasks. Containers whose removal keeps failing are left to ``remove_orphans``."""
        await self._images.close()
        await asyncio.gather(*self._removals)
        for leftover in self._leftovers:
            leftover.cancel()
        await asyncio.gather(*self._leftovers, return_exceptions=True)

    async def ping(self) -> None:
        """See ``Containers``."""
        try:
            async with asyncio.timeout(PING_WITHIN):
                await self._engine.call(self._engine.client.ping)
        except ENGINE_ERRORS as error:
            raise ContainerError(
                f"the engine does not answer: {error}"[:400], phase=FaultPhase.CREATE, retryable=True
            ) from error

    async def try_out(self, labels: Labels) -> None:
        """See ``Containers``."""
        await self._step(partial(trial.make_image, self._engine.client), FaultPhase.CREATE, f"image {trial.IMAGE}")
        check_trial(await self.run(trial.STAGE, mounts=[], labels=labels))

    async def ensure_images(self, images: Sequence[str]) -> Mapping[str, float]:
        """See ``Containers``. Jobs do not wait for the registry of an image that is on this host."""
        names = list(dict.fromkeys(images))
        return dict(zip(names, await asyncio.gather(*map(self._images.ensure, names)), strict=True))

    async def image_id(self, image: str, phase: FaultPhase) -> str:
        """Return the id, a digest, of an image that is on this host.

        Raises:
            ContainerError: The image is not here, or the engine failed; the phase is the given one.
        """
        try:
            return str((await self._engine.call(self._engine.client.inspect_image, image))["Id"])
        except ENGINE_ERRORS as error:
            if isinstance(error, ImageNotFound):
                self._images.forget(image)
            raise fault(error, phase, f"image {image}") from error

    def export(self, image_id: str) -> Iterator[bytes]:
        """Yield an image's archive, as `docker save` makes it; blocks.

        Raises:
            OSError: The engine failed.
        """
        try:
            yield from self._images.export(image_id)
        except ENGINE_ERRORS as error:
            raise OSError(errno.EIO, "the engine did not save it") from error

    async def run(
        self, stage: Stage, *, mounts: Sequence[Mount], labels: Labels, upcoming: Upcoming | None = None
    ) -> StageRun:
        """See ``Containers``."""
        if not self._allows(stage):
            reason = "the stage asks for a privileged container, which this grader does not allow"
            raise ContainerError(reason, phase=FaultPhase.CREATE, retryable=False)
        prepared = self._prepared.pop(_name(labels), None) or self._prepare(stage, mounts, labels)
        container = prepared.container
        try:
            created = await prepared.creation
            run = await self._run(container, stage, created, upcoming)
        except BaseException as error:
            if isinstance(error, ContainerError) and isinstance(error.__cause__, ImageNotFound):
                self._images.forget(stage.image)
            container.abandon()
            await finish(self._discard(container))
            raise
        await finish(self._discard_behind(container))
        return run

    async def dismiss(self, upcoming: Upcoming) -> None:
        """See ``Containers``."""
        if prepared := self._prepared.pop(_name(upcoming.labels), None):
            await end(prepared.creation)
            await self._discard_behind(prepared.container)

    async def remove_orphans(self, is_orphan: Callable[[Owner], bool]) -> int:
        """See ``Containers``. Containers that an unavailable engine cannot remove are left for the next call."""
        client, removed = self._engine.client, 0
        try:
            found = await self._engine.call(owned_containers, client)
            for each, owner in found:
                if is_orphan(owner):
                    await self._engine.call(remove, client, each["Id"])
                    self._remove_groups(each["Names"])
                    removed += 1
            alive = {name for each, _ in found for name in each["Names"]}
            remove_abandoned(lambda name: f"/{name}" not in alive)
        except ENGINE_ERRORS as error:
            log.warning("orphaned containers not removed", error=type(error).__name__)
        return removed

    def _remove_groups(self, names: Sequence[str]) -> None:
        for name in names if self._features.is_metered else ():
            Meter(name.removeprefix("/")).remove()

    def _allows(self, stage: Stage) -> bool:
        return self._limits.allow_privileged or not stage.privileged

    def _prepare(self, stage: Stage, mounts: Sequence[Mount], labels: Labels, *, ahead: float = 0.0) -> "_Prepared":
        """Begin to create a container that will be started within ``ahead`` seconds."""
        container = self._container(stage, mounts, labels, ahead=ahead)
        creation = asyncio.create_task(self._make(container, stage))
        creation.add_done_callback(lambda task: task.cancelled() or task.exception())  # marks an error as seen
        return _Prepared(container, creation)

    def _container(self, stage: Stage, mounts: Sequence[Mount], labels: Labels, *, ahead: float) -> Container:
        options = container_options(stage, labels, limits=self._limits, mounts=mounts, hosts=self._hosts, ahead=ahead)
        name = _name(labels)
        meter = Meter(name) if self._features.is_metered else None
        if meter:
            options["host_config"]["cgroup_parent"] = meter.parent
        if stage.untrusted and self._features.seccomp:
            options["host_config"]["security_opt"].append(f"seccomp={self._features.seccomp}")
        if not stage.untrusted and self._features.has_quotas:
            options["host_config"]["storage_opt"] = disk_quota(self._limits)
        return Container(
            client=self._engine.client,
            name=name,
            options=options,
            meter=meter,
            output=OutputLog(
                head=self._limits.kept_head,
                tail=self._limits.kept_tail,
                is_terminal=stage.tty,
                listener=labels.listener_of(stage),
            ),
            output_limit=self._limits.output,
            stop=labels.stop or asyncio.Event(),
            disk_limit=math.inf if stage.untrusted else self._limits.disk,
        )

    async def _make(self, container: Container, stage: Stage) -> float:
        """Create a container and attach to its output; return the seconds that the creation took."""
        began, subject = time.monotonic(), f"image {stage.image}"
        if stage.untrusted:
            image = await self._images.find(stage.image, FaultPhase.CREATE)
            container.options = without_volumes(container.options, image.id, image.volumes)
        await self._step(container.create, FaultPhase.CREATE, subject)
        created = time.monotonic()
        await self._step(container.attach, FaultPhase.START, subject)
        return created - began

    async def _run(
        self, container: Container, stage: Stage, create_seconds: float, upcoming: Upcoming | None
    ) -> StageRun:
        subject = f"image {stage.image}"
        disk = DiskWatch(container.disk_limit, self._features.data, partial(self._written, container))
        disk.begin()
        made = time.monotonic()
        try:
            async with self._start_gate.take():
                await self._step(container.start, FaultPhase.START, f"{subject}, entrypoint {stage.entrypoint}"[:400])
        except ContainerError as error:
            if reason := await self._students_fault(container, stage, error):
                return never_started(stage, reason)
            raise
        running = time.monotonic()
        if upcoming and self._allows(upcoming.stage):
            self._prepared[_name(upcoming.labels)] = self._prepare(
                upcoming.stage, upcoming.mounts, upcoming.labels, ahead=stage.timeout
            )
        killed_for = await self._watch(container, disk, stage.timeout, subject)
        details = await self._step(container.inspect, FaultPhase.COLLECT, subject)
        run = record_of(
            container, stage, details, killed_for, create_seconds=create_seconds, start_seconds=running - made
        )
        self._start_gate.note((run.finished_at - run.started_at).total_seconds())
        return await self._checked(run, container, stage)

    async def _checked(self, run: StageRun, container: Container, stage: Stage) -> StageRun:
        """Return the record of a stage that ran, with the error of a program that the container could not execute."""
        if run.exit_code not in LATE_CODES:
            return run
        mounts = container.options["host_config"]["mounts"]
        return with_late_fault(run, container.output.text(), await self._program(container, stage), mounts)

    async def _students_fault(self, container: Container, stage: Stage, error: ContainerError) -> str | None:
        """Return the reason for which a container was not started if it is the student's, else None."""
        text = str(getattr(error.__cause__, "explanation", "") or "")
        mounts = container.options["host_config"]["mounts"]
        return students_fault(text, await self._program(container, stage), mounts) if text else None

    async def _program(self, container: Container, stage: Stage) -> Program:
        try:
            config = (await self._images.find(stage.image, FaultPhase.COLLECT)).config
        except ContainerError:  # the image was removed meanwhile
            config = {}
        return Program.of(container.options, config)

    async def _step(self, step: Callable[[], T], phase: FaultPhase, subject: str) -> T:
        try:
            return await self._engine.call(step)
        except ENGINE_ERRORS as error:
            raise fault(error, phase, subject) from error

    async def _written(self, container: Container) -> int | None:
        try:
            return await self._engine.call(container.written)
        except ENGINE_ERRORS as error:
            log.debug("size of a container unknown", container=container.name, error=type(error).__name__)
            return None

    async def _watch(
        self,
        container: Container,
        disk: DiskWatch,
        timeout: float,  # noqa: ASYNC109
        subject: str,
    ) -> KilledFor | None:
        """Wait for a container's end, kill it if it must end, and return the reason, such as a limit."""
        follower = self._engine.begin(container.follow)
        follower.add_done_callback(lambda future: future.cancelled() or future.exception())  # marks an error as seen
        reason = await wait_until_due(follower, disk, timeout, container.stop)
        killed = reason is not None and await self._step(container.kill, FaultPhase.WAIT, subject)
        await asyncio.wait({follower}, timeout=KILL_GRACE)
        if not follower.done():
            raise ContainerError(f"{subject}: did not end when killed", phase=FaultPhase.WAIT, retryable=True)
        try:
            flooded = follower.result()
        except ENGINE_ERRORS as error:
            raise fault(error, FaultPhase.WAIT, subject) from error
        if flooded:
            return KilledFor.OUTPUT
        if killed:
            return reason
        return KilledFor.DISK if await disk.was_exceeded() else None

    async def _discard_behind(self, container: Container) -> None:
        """Remove an ended container in the background; wait only while more removals than slots are pending."""
        removal = asyncio.create_task(self._discard(container))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        while len(self._removals) > self._slots:
            await asyncio.wait(self._removals, return_when=asyncio.FIRST_COMPLETED)

    async def _discard(self, container: Container) -> None:
        """Remove a container now, or in the background once the engine is available again."""
        try:
            await self._engine.call(container.remove)
        except ENGINE_ERRORS as error:
            log.warning("container not removed yet", container=container.name, error=type(error).__name__)
            leftover = asyncio.create_task(self._remove_later(container))
            self._leftovers.add(leftover)
            leftover.add_done_callback(self._leftovers.discard)

    async def _remove_later(self, container: Container) -> None:
        for delay in itertools.chain((1, 2, 4), itertools.repeat(5)):
            await asyncio.sleep(delay)
            with contextlib.suppress(*ENGINE_ERRORS):
                return await self._engine.call(container.remove)
        return None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A container, and the task that creates it."""

    container: Container
    creation: asyncio.Task[float]


def _name(labels: Labels) -> str:
    """Return the name of a stage's container."""
    return f"{_NAME}{re.sub(r'[^A-Za-z0-9_.-]', '-', labels.execution_id)}-{labels.stage}"

"""Stages as containers of an OCI runtime, without a daemon, whose overhead would exceed a small stage's work.

The engine, if there is one, provides the images, and runs the stages that need its features: a network, or privileges.
"""

import asyncio
import contextlib
import platform
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import structlog

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.domain.result import Usage
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.oci.accounts import UnknownUserError
from broadway.grader.oci.checks import check_stage
from broadway.grader.oci.choice import OCI, missing
from broadway.grader.oci.container import Container, StartError, owner, remove_abandoned, run_alone
from broadway.grader.oci.facts import which
from broadway.grader.oci.faults import describe, not_executed, start_fault
from broadway.grader.oci.groups import Account
from broadway.grader.oci.host import Runtime, prepared
from broadway.grader.oci.images import UNLIMITED, Image, Store, no_files
from broadway.grader.oci.layers import Room
from broadway.grader.oci.library import Keeping, Library
from broadway.grader.oci.origins import OfEngine, OfLayout, Origin
from broadway.grader.oci.places import ENGINE, SKOPEO, Access, Place
from broadway.grader.oci.pulls import Pulls
from broadway.grader.oci.skopeo import Skopeo
from broadway.grader.oci.sources import Layout
from broadway.grader.oci.spec import command
from broadway.grader.ports import ContainerError, KilledFor, Labels, Limits, Mount, Owner, Size, StageRun, Upcoming
from broadway.grader.sandbox.disk_watch import CHECK_INTERVAL
from broadway.grader.sandbox.output import OutputLog
from broadway.grader.sandbox.profile import container_options
from broadway.grader.sandbox.programs import (
    INIT,
    Program,
    check_trial,
    final_state,
    never_started,
    students_fault,
    with_late_fault,
)
from broadway.runtime.cancellation import end, finish

log = structlog.get_logger(__name__)

START_WITHIN = 60.0  # seconds
KILL_WITHIN = 30.0  # seconds that a killed container may take to end
ABANDONED_AFTER = 60.0  # seconds after which a directory without an owner is abandoned

_NANO = 1e-9


@dataclass(frozen=True, slots=True)
class OciOptions:
    """Options for the creation of containers.

    Args:
        program: The OCI runtime: a name on the PATH, or a path.
        place: The place of images. Only with an engine's images, the engine also runs stages.
        images: The directory of unpacked images; by default in the work directory.
        access: The access to registries.
        room: The most that an image may take.
        keeping: The unused images to keep.
        pull_timeout: Seconds for a pull through skopeo.
        size: The capacity of a container's root file system, which is in memory; at most its disk limit.
    """

    program: str = "crun"
    place: Place = field(default_factory=Place)
    images: Path | None = None
    access: Access = field(default_factory=Access)
    room: Room = field(default_factory=lambda: replace(UNLIMITED))
    keeping: Keeping = field(default_factory=lambda: Keeping(14 * 24 * 3600))
    pull_timeout: float = 600.0
    size: Size = field(default_factory=Size)


_DEFAULT = OciOptions()


class OciContainers:
    """The port ``Containers`` for an OCI runtime."""

    def __init__(self, runtime: Runtime, library: Library, *, limits: Limits, engine: DockerContainers | None) -> None:
        self._runtime = runtime
        self._library = library
        self._limits = limits
        self._engine = engine

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        *,
        slots: int,
        limits: Limits,
        work_dir: Path,
        docker_host: str | None = None,
        options: OciOptions = _DEFAULT,
    ) -> AsyncIterator[Self]:
        """Check and prepare this host, and connect to the engine if it has the images.

        ``slots`` stages may run at a time. ``docker_host`` is as for ``DockerContainers``.

        Raises:
            ContainerError: The host lacks something, which the text names; or no engine answers.
        """
        work_dir = work_dir.absolute()
        async with contextlib.AsyncExitStack() as stack:
            size = replace(options.size, size=min(options.size.size, limits.disk))
            runtime = stack.enter_context(prepared(options.program, size, allow_32_bit=limits.allow_32_bit))
            engine = None
            if options.place.kind == ENGINE:
                own = replace(limits, runtime=None)
                connecting = DockerContainers.connect(
                    slots=slots, limits=own, docker_host=docker_host, work_dir=work_dir
                )
                engine = await stack.enter_async_context(connecting)
            directory = options.images.absolute() if options.images else work_dir / "images"
            store = await asyncio.to_thread(Store, directory, options.room)
            origin = _origin(options, store, engine)
            stack.push_async_callback(origin.close)
            library = Library(store, origin, options.keeping)
            stack.callback(library.close)
            collector = asyncio.create_task(library.keep_small())
            try:
                yield cls(runtime, library, limits=limits, engine=engine)
            finally:
                await finish(end(collector))

    async def ping(self) -> None:
        """See ``Containers``."""
        if self._engine:
            await self._engine.ping()

    async def try_out(self, labels: Labels) -> None:
        """See ``Containers``."""
        stage = Stage(image="broadway-self-check", entrypoint=[INIT, "--version"], untrusted=True, timeout=30)
        with no_files() as image:
            check_trial(await self._run_in(image, stage, [], labels))

    async def ensure_images(self, images: Sequence[str]) -> Mapping[str, float]:
        """See ``Containers``. For unpacked images, their origin is asked only from time to time."""
        names = list(dict.fromkeys(images))
        return dict(zip(names, await asyncio.gather(*map(self._unpack, names)), strict=True))

    async def run(
        self,
        stage: Stage,
        *,
        mounts: Sequence[Mount],
        labels: Labels,
        upcoming: Upcoming | None = None,  # noqa: ARG002 - creation is too fast to be worth doing ahead
    ) -> StageRun:
        """See ``Containers``."""
        if stage.privileged or (stage.has_network and self._limits.allow_network):
            return await self._require_engine(stage).run(stage, mounts=mounts, labels=labels)
        async with self._library.use(stage.image) as image:
            return await self._run_in(image, stage, mounts, labels)

    async def _run_in(self, image: Image, stage: Stage, mounts: Sequence[Mount], labels: Labels) -> StageRun:
        options = container_options(stage, labels, limits=self._limits, mounts=mounts, hosts=self._runtime.hosts)
        check_stage(stage, options, image.config, mounts)
        container = self._container(image, stage, options, labels)
        try:
            return await self._run(container, stage, image)
        finally:
            container.close()
            if not container.is_removed:
                await finish(self._discard(container))

    async def dismiss(self, upcoming: Upcoming) -> None:
        """See ``Containers``. No container is created ahead."""

    async def remove_orphans(self, is_orphan: Callable[[Owner], bool]) -> int:
        """See ``Containers``. Containers that cannot be removed are left for the next call."""
        found = [each for each in self._runtime.state.iterdir() if _is_abandoned(each, is_orphan)]
        for directory in found:
            try:
                await asyncio.to_thread(remove_abandoned, directory)
            except OSError as error:
                log.warning("orphaned container not removed", container=directory.name, reason=describe(error))
        return len(found) + (await self._engine.remove_orphans(is_orphan) if self._engine else 0)

    async def _unpack(self, image: str) -> float:
        began = time.monotonic()
        await self._library.ensure(image)
        return time.monotonic() - began

    def _require_engine(self, stage: Stage) -> DockerContainers:
        """Return the engine, for a stage that needs one of its features.

        Raises:
            ContainerError: This grader has no engine.
        """
        if self._engine:
            return self._engine
        feature = "a privileged container" if stage.privileged else "a network"
        reason = f"the stage asks for {feature}, which --runtime {OCI} leaves to an engine, and this grader has none"
        raise ContainerError(reason, phase=FaultPhase.CREATE, retryable=False)

    def _container(self, image: Image, stage: Stage, options: dict[str, Any], labels: Labels) -> Container:
        head, tail = self._limits.kept_head, self._limits.kept_tail
        execution = re.sub(r"[^A-Za-z0-9_.-]", "-", labels.execution_id)
        return Container(
            runtime=self._runtime,
            name=f"broadway-{execution}-{labels.stage}",
            image=image,
            options=options,
            seccomp=self._runtime.strict_seccomp if stage.untrusted else self._runtime.seccomp,
            labels=labels,
            output=OutputLog(head=head, tail=tail, listener=labels.listener_of(stage)),
            output_limit=self._limits.output,
        )

    async def _run(self, container: Container, stage: Stage, image: Image) -> StageRun:
        began = time.monotonic()
        program = Program.of(container.options, image.config.as_of_engine())
        try:
            await self._start(container, stage)
        except ContainerError as error:
            return _blamed_on_student(error, container, stage, program)
        running = time.monotonic()
        killed_for = await self._wait_until_due(container, stage)
        exit_code = container.ended.result()
        if exit_code and not killed_for and container.is_full():
            killed_for = KilledFor.DISK  # its program failed on a full disk
        account, problem = await self._settle(container, stage)
        if problem is not None and exit_code:
            return _blamed_on_student(
                self._start_fault(StartError(problem), container, stage), container, stage, program
            )
        text, streams = container.output.kept()
        started_at, finished_at = _time(container.started.result()), _time(container.finished_at)
        oom_killed = bool(account.oom_kills)
        run = StageRun(
            exit_code=exit_code,
            killed_for=KilledFor.OUTPUT if container.flooded else killed_for,
            oom_killed=oom_killed,
            started_at=started_at,
            finished_at=max(started_at, finished_at),
            output=text if stage.logs else "",
            streams=streams if stage.logs else [],
            output_bytes=container.output.total,
            state=final_state(exit_code, started_at, finished_at, oom_killed=oom_killed),
            usage=Usage(
                image=image.id,
                create_seconds=container.created_at - began,
                start_seconds=running - container.created_at,
                cpu_seconds=account.cpu_seconds,
                peak_memory=account.peak_memory,
            ),
        )
        return with_late_fault(run, text, program, container.options["host_config"]["mounts"])

    async def _settle(self, container: Container, stage: Stage) -> tuple[Account, str | None]:
        try:
            return await finish(asyncio.to_thread(container.settle))
        except OSError as error:
            reason = f"image {stage.image}: the container could not be removed ({describe(error)})"
            raise ContainerError(reason, phase=FaultPhase.COLLECT, retryable=True) from error

    async def _start(self, container: Container, stage: Stage) -> None:
        """Start a container, and return once its first process runs."""
        try:
            await finish(run_alone(container.start))
        except (OSError, UnknownUserError) as error:
            raise self._start_fault(error, container, stage) from error
        container.follow()
        both = {container.started, container.ended}
        await asyncio.wait(both, timeout=START_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        if not container.started.done():
            _, problem = await self._settle(container, stage)
            raise self._start_fault(StartError(problem or "the runtime did not start it"), container, stage)

    async def _wait_until_due(self, container: Container, stage: Stage) -> KilledFor | None:
        """Wait for the end, kill the container when its time is up, its disk full or it is stopped."""
        deadline, stop = time.monotonic() + stage.timeout, container.labels.stop or asyncio.Event()
        stopped = asyncio.create_task(stop.wait())
        either: set[asyncio.Future[Any]] = {container.ended, stopped}
        try:
            while not (any(each.done() for each in either) or container.is_full()) and time.monotonic() < deadline:
                interval = min(deadline - time.monotonic(), CHECK_INTERVAL)
                await asyncio.wait(either, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(stopped)
        reason = KilledFor.DISK if container.is_full() else KilledFor.CANCEL if stop.is_set() else KilledFor.TIME
        killed = container.kill()
        await asyncio.wait({container.ended}, timeout=KILL_WITHIN)
        if not container.ended.done():
            problem = f"image {stage.image}: did not end when killed"
            raise ContainerError(problem, phase=FaultPhase.WAIT, retryable=True)
        return reason if killed else None

    def _start_fault(self, error: Exception, container: Container, stage: Stage) -> ContainerError:
        subject = f"image {stage.image}"
        if not container.created_at:
            reason = f"{subject}: the container could not be made ({describe(error)})"
            return ContainerError(reason, phase=FaultPhase.CREATE, retryable=True)
        program = (command(container.options, container.image.config) or [""])[0]
        fault = start_fault(error, f"{subject}, entrypoint {stage.entrypoint}"[:400], program)
        fault.__cause__ = error
        return fault

    async def _discard(self, container: Container) -> None:
        """Remove a container; if that fails, ``remove_orphans`` of a later process removes it."""
        try:
            await asyncio.to_thread(container.remove)
        except OSError as error:
            log.warning("container not removed", container=container.name, reason=describe(error))


def _origin(options: OciOptions, store: Store, engine: DockerContainers | None) -> Origin:
    """Return the origin of images at the place in the options.

    Raises:
        ContainerError: Skopeo is needed, and is missing.
    """
    if engine:
        return OfEngine(engine)
    machine, place = platform.machine(), options.place
    if not place.is_of_skopeo:
        assert place.path is not None  # noqa: S101 - a layout has one
        return OfLayout(Layout(place.path), machine)
    program = which(SKOPEO)
    if program is None:
        raise missing(f"there is no {SKOPEO}, which gets images from {place}: the package {SKOPEO} has it")
    skopeo = Skopeo(program, place, options.access, machine, options.room.size)
    return Pulls(skopeo, store, timeout=options.pull_timeout)


def _is_abandoned(directory: Path, is_orphan: Callable[[Owner], bool]) -> bool:
    found = owner(directory)
    if found:
        return is_orphan(found)
    try:
        return time.time() - directory.stat().st_mtime > ABANDONED_AFTER
    except FileNotFoundError:
        return False


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds * _NANO, UTC)


def _blamed_on_student(error: ContainerError, container: Container, stage: Stage, program: Program) -> StageRun:
    """Return the record of a stage that was not started because of a student's files.

    Raises:
        ContainerError: The given one, which has another cause.
    """
    cause = str(error.__cause__ or "")
    text = not_executed(cause, program.name) or cause
    reason = students_fault(text, program, container.options["host_config"]["mounts"])
    if reason is None:
        raise error
    return never_started(stage, reason)

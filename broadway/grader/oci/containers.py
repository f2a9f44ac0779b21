"""Stages as containers of an OCI runtime, with no daemon between: what a stage costs is what it does.

The engine, if there is one, gives the images, and runs the stages that ask for what only it has: a network, or
privileges.
"""

import asyncio
import contextlib
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
from broadway.grader.oci.container import Container, StartError, owner, remove_abandoned, run_alone
from broadway.grader.oci.faults import describe, start_fault
from broadway.grader.oci.groups import Account
from broadway.grader.oci.host import Runtime, prepared
from broadway.grader.oci.images import Image, Store
from broadway.grader.oci.library import Library
from broadway.grader.oci.sources import Layout
from broadway.grader.oci.spec import command
from broadway.grader.ports import ContainerError, KilledFor, Labels, Limits, Mount, Size, StageRun, Upcoming
from broadway.grader.sandbox.disk_watch import LOOK_EVERY
from broadway.grader.sandbox.output import OutputLog
from broadway.grader.sandbox.profile import container_options
from broadway.runtime.cancellation import end, finish

log = structlog.get_logger(__name__)

NAME = "oci"  # as the grader's --runtime
START_WITHIN = 60.0  # seconds
KILL_WITHIN = 30.0  # seconds that a killed container may take to end
NOBODY_ELSE_FOR = 60.0  # seconds after which a directory whose owner is not known is nobody's

_NANO = 1e-9


@dataclass(frozen=True, slots=True)
class OciOptions:
    """How containers are made.

    Args:
        program: The OCI runtime: a name on the PATH, or a path.
        layout: A directory in the OCI image layout, to take images from. Then there is no engine at all.
        unused_for: Seconds after which an unpacked image that nobody uses is removed.
        size: What a container may store outside of its mounts, in memory, and never more than its limit of disk.
    """

    program: str = "crun"
    layout: Path | None = None
    unused_for: float = 14 * 24 * 3600
    size: Size = field(default_factory=Size)


_DEFAULT = OciOptions()


class OciContainers:
    """An OCI runtime as the grader sees it."""

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
        """Make sure that this host can, and connect to the engine, unless images come from a layout.

        ``slots`` stages may run at a time. Images are unpacked below ``work_dir``. ``docker_host`` is as for
        ``DockerContainers``.

        Raises:
            ContainerError: It cannot, and the text says what is missing; or no engine answers.
        """
        work_dir = work_dir.absolute()
        async with contextlib.AsyncExitStack() as stack:
            size = replace(options.size, size=min(options.size.size, limits.disk))
            runtime = stack.enter_context(prepared(options.program, size))
            engine = layout = None
            if options.layout:
                layout = Layout(options.layout.absolute())
            else:
                own = replace(limits, runtime=None)
                connecting = DockerContainers.connect(
                    slots=slots, limits=own, docker_host=docker_host, work_dir=work_dir
                )
                engine = await stack.enter_async_context(connecting)
            store = await asyncio.to_thread(Store, work_dir / "images")
            library = Library(store, engine=engine, layout=layout, unused_for=options.unused_for)
            stack.callback(library.close)
            keeper = asyncio.create_task(library.keep_small())
            try:
                yield cls(runtime, library, limits=limits, engine=engine)
            finally:
                await finish(end(keeper))

    async def ping(self) -> None:
        """See ``Containers``."""
        if self._engine:
            await self._engine.ping()

    async def ensure_images(self, images: Sequence[str]) -> Mapping[str, float]:
        """See ``Containers``. Images that are unpacked cost the engine a look now and then."""
        names = list(dict.fromkeys(images))
        pulled = await self._engine.ensure_images(names) if self._engine else {}
        unpacked = await asyncio.gather(*map(self._unpack, names))
        return {name: pulled.get(name, 0.0) + seconds for name, seconds in zip(names, unpacked, strict=True)}

    async def run(
        self,
        stage: Stage,
        *,
        mounts: Sequence[Mount],
        labels: Labels,
        upcoming: Upcoming | None = None,  # noqa: ARG002 - making a container takes too little to be done ahead
    ) -> StageRun:
        """See ``Containers``."""
        if stage.privileged or (stage.has_network and self._limits.allow_network):
            return await self._of_the_engine(stage).run(stage, mounts=mounts, labels=labels)
        async with self._library.use(stage.image) as image:
            options = container_options(stage, labels, limits=self._limits, mounts=mounts, hosts=self._runtime.hosts)
            check_stage(stage, options, image.config, mounts)
            container = self._container(image, options, labels)
            try:
                return await self._run(container, stage, image)
            finally:
                container.close()
                if not container.is_removed:
                    await finish(self._discard(container))

    async def dismiss(self, upcoming: Upcoming) -> None:
        """See ``Containers``. Nothing is done ahead."""

    async def remove_orphans(self, is_orphan: Callable[[str, str], bool]) -> int:
        """See ``Containers``. Those that cannot be removed are left for the next call."""
        found = [each for each in self._runtime.state.iterdir() if _is_abandoned(each, is_orphan)]
        for directory in found:
            try:
                await asyncio.to_thread(remove_abandoned, directory)
            except OSError as error:
                log.warning("orphaned container not removed", container=directory.name, reason=describe(error))
        return len(found) + (await self._engine.remove_orphans(is_orphan) if self._engine else 0)

    async def _unpack(self, image: str) -> float:
        begun = time.monotonic()
        await self._library.ensure(image)
        return time.monotonic() - begun

    def _of_the_engine(self, stage: Stage) -> DockerContainers:
        """The engine, for what only it can do."""
        if self._engine:
            return self._engine
        what = "a privileged container" if stage.privileged else "a network"
        reason = f"the stage asks for {what}, which --runtime {NAME} leaves to an engine, and this grader has none"
        raise ContainerError(reason, phase=FaultPhase.CREATE, retryable=False)

    def _container(self, image: Image, options: dict[str, Any], labels: Labels) -> Container:
        execution = re.sub(r"[^A-Za-z0-9_.-]", "-", labels.execution_id)
        return Container(
            runtime=self._runtime,
            name=f"broadway-{execution}-{labels.stage}",
            image=image,
            options=options,
            labels=labels,
            output=OutputLog(head=self._limits.kept_head, tail=self._limits.kept_tail),
            output_limit=self._limits.output,
        )

    async def _run(self, container: Container, stage: Stage, image: Image) -> StageRun:
        begun = time.monotonic()
        await self._start(container, stage)
        running = time.monotonic()
        killed_for = await self._kill_when_due(container, stage)
        exit_code = container.ended.result()
        if exit_code and not killed_for and container.is_full():
            killed_for = KilledFor.DISK  # it gave up by itself
        account, told = await self._settle(container, stage)
        if told is not None and exit_code:
            raise self._start_fault(StartError(told), container, stage)
        text, streams = container.output.kept() if stage.logs else ("", [])
        started_at, finished_at = _time(container.started.result()), _time(container.finished_at)
        oom_killed = bool(account.oom_kills)
        return StageRun(
            exit_code=exit_code,
            killed_for=KilledFor.OUTPUT if container.flooded else killed_for,
            oom_killed=oom_killed,
            started_at=started_at,
            finished_at=max(started_at, finished_at),
            output=text,
            streams=streams,
            output_bytes=container.output.total,
            state=_state(exit_code, started_at, finished_at, oom_killed=oom_killed),
            usage=Usage(
                image=image.id,
                create_seconds=container.created_at - begun,
                start_seconds=running - container.created_at,
                cpu_seconds=account.cpu_seconds,
                peak_memory=account.peak_memory,
            ),
        )

    async def _settle(self, container: Container, stage: Stage) -> tuple[Account, str | None]:
        try:
            return await finish(asyncio.to_thread(container.settle))
        except OSError as error:
            reason = f"image {stage.image}: the container could not be removed ({describe(error)})"
            raise ContainerError(reason, phase=FaultPhase.COLLECT, retryable=True) from error

    async def _start(self, container: Container, stage: Stage) -> None:
        """Return once its first process runs."""
        try:
            await finish(run_alone(container.start))
        except (OSError, UnknownUserError) as error:
            raise self._start_fault(error, container, stage) from error
        container.follow()
        both = {container.started, container.ended}
        await asyncio.wait(both, timeout=START_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        if not container.started.done():
            _, told = await self._settle(container, stage)
            raise self._start_fault(StartError(told or "the runtime did not start it"), container, stage)

    async def _kill_when_due(self, container: Container, stage: Stage) -> KilledFor | None:
        """Wait for the end, or make it come when its time is up or its disk is full; which of them it was."""
        deadline = time.monotonic() + stage.timeout
        while not (container.ended.done() or container.is_full()) and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait({container.ended}, timeout=min(left, LOOK_EVERY))
        reason = KilledFor.DISK if container.is_full() else KilledFor.TIME
        killed = container.kill()
        await asyncio.wait({container.ended}, timeout=KILL_WITHIN)
        if not container.ended.done():
            problem = f"image {stage.image}: did not end when killed"
            raise ContainerError(problem, phase=FaultPhase.WAIT, retryable=True)
        return reason if killed else None

    def _start_fault(self, error: Exception, container: Container, stage: Stage) -> ContainerError:
        what = f"image {stage.image}"
        if not container.created_at:
            reason = f"{what}: the container could not be made ({describe(error)})"
            return ContainerError(reason, phase=FaultPhase.CREATE, retryable=True)
        program = (command(container.options, container.image.config) or [""])[0]
        return start_fault(error, f"{what}, entrypoint {stage.entrypoint}"[:400], program)

    async def _discard(self, container: Container) -> None:
        """Remove a container. What cannot be removed stays, for ``remove_orphans`` of a later life."""
        try:
            await asyncio.to_thread(container.remove)
        except OSError as error:
            log.warning("container not removed", container=container.name, reason=describe(error))


def _is_abandoned(directory: Path, is_orphan: Callable[[str, str], bool]) -> bool:
    whose = owner(directory)
    if whose:
        return is_orphan(*whose)
    try:
        return time.time() - directory.stat().st_mtime > NOBODY_ELSE_FOR
    except FileNotFoundError:
        return False


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds * _NANO, UTC)


def _state(exit_code: int, started_at: datetime, finished_at: datetime, *, oom_killed: bool) -> dict[str, Any]:
    """In the shape of an engine's account."""
    return {
        "Status": "exited",
        "Running": False,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": oom_killed,
        "Dead": False,
        "Pid": 0,
        "ExitCode": exit_code,
        "Error": "",
        "StartedAt": started_at.isoformat(),
        "FinishedAt": finished_at.isoformat(),
    }

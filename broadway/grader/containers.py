"""The only Docker: stages as containers of a Docker Engine, 20.10 or later."""

import asyncio
import concurrent.futures
import contextlib
import errno
import itertools
import math
import os
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import docker.utils
import structlog
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.transport import UnixHTTPAdapter
from docker.utils.socket import frames_iter
from requests import Response
from requests.exceptions import ConnectionError as HTTPConnectionError
from requests.exceptions import Timeout
from urllib3.exceptions import HTTPError, ReadTimeoutError

from broadway.assignment import Stage, is_image_name
from broadway.cancellation import end, finish
from broadway.grader.abilities import Abilities
from broadway.grader.cgroups import Meter, remove_abandoned
from broadway.grader.disk import DiskWatch
from broadway.grader.output import OutputLog
from broadway.grader.profile import LABEL, container_options, disk_quota, hosts_file, without_volumes
from broadway.grader.stages import ContainerError, KilledFor, Labels, Limits, Mount, StageRun, Upcoming, Usage
from broadway.grader.turns import Turns
from broadway.job import FaultPhase

log = structlog.get_logger(__name__)

CALL_TIMEOUT = 60  # seconds that the engine may take for one call
KILL_GRACE = 30.0  # seconds that a killed container may take to end
WAIT_SLICE = 10  # seconds of one wait; in between, a thread sees that nobody waits for it any more
SEEN_FOR = 30.0  # seconds for which an image that was here is taken to be here still
CPUS_OF_A_START = 2  # that starting a container keeps busy, in the engine, its helpers and the runtime
PULLS = 3  # missing images pulled at a time

PING_WITHIN = 5  # seconds
_TROUBLE = (DockerException, OSError, HTTPError)  # an OSError is also every error of requests
# What the engine says when a start fails because of what the stage asks for, although it calls it a server's error.
_STAGES_FAULT = re.compile(r'exec: "|environment variable|sethostname|unable to find (user|group)')
_HOSTS_FAULT = re.compile(r"bind source path")
_NOISE = re.compile(r"^.*unable to start container process: |: unknown$", re.DOTALL)
_PRIVATE = re.compile(
    r'(?:Get|Head|Post) "https?://[^"]*"|https?://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?'
    r'|(?<=environment variable).*|(?<=path does not exist).*|(?<=mounting) "[^"]*"',
    re.DOTALL,
)

_NAME = "broadway-"  # of every container

T = TypeVar("T")
P = ParamSpec("P")


class _Client(docker.APIClient):
    """A client none of whose calls waits for ever: the SDK sends some of them, such as pull, without a timeout."""

    def request(self, method: str | bytes, url: str | bytes, **options: Any) -> Response:  # type: ignore[override]
        options["timeout"] = options.get("timeout") or self.timeout
        return super().request(method, url, **options)


class _Socket(UnixHTTPAdapter):
    """One pool of connections for all calls: the SDK has one for each URL, and so connects for each call."""

    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # noqa: ARG002 - all are at the same socket
        return super().get_connection("", proxies)


class _Engine:
    """The SDK, in threads of its own."""

    def __init__(self, client: _Client, threads: concurrent.futures.Executor) -> None:
        self.client = client
        self._threads = threads

    def begin(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Start a call in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    async def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A call's result. It goes to its end even when the caller is cancelled, so that its effect is known."""
        return await finish(self.begin(call, *args, **kwargs))


class _Attachment:
    """The live output of one container: one thread drains it, any other may cut it."""

    def __init__(self, raw: socket.SocketIO) -> None:
        self._raw = raw
        self._lock = threading.Lock()

    def drain(self, output: OutputLog, limit: int) -> bool:
        """Read until the output ends or is cut, and close. True, at once, if it grew beyond ``limit`` bytes."""
        try:
            for stream, data in self._frames():
                output.feed(stream, data, time.time_ns())
                if output.total > limit:
                    return True
        finally:
            self.close()
        return False

    def cut(self) -> None:
        """End the draining, whatever it waits for."""
        with (
            self._lock,
            contextlib.suppress(OSError, ValueError),
            socket.socket(fileno=os.dup(self._raw.fileno())) as same,
        ):
            same.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the connection back to the system; the SDK leaves that to the garbage collector."""
        with self._lock:
            if response := getattr(self._raw, "_response", None):
                response.close()
            self._raw.close()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        with contextlib.suppress(ConnectionError):  # how an engine that is killed ends it
            yield from frames_iter(self._raw, tty=False)  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class _Container:
    """One stage's container: the calls about it, to be made in threads."""

    client: _Client
    name: str
    options: Mapping[str, Any]
    output: OutputLog
    output_limit: int
    disk_limit: float
    meter: Meter | None = None
    attachment: _Attachment | None = None
    taken: bool = False
    killed: bool = False
    abandoned: threading.Event = field(default_factory=threading.Event)

    def create(self) -> None:
        host_config = self.client.create_host_config(**self.options["host_config"])
        try:
            self.client.create_container(**{**self.options, "name": self.name, "host_config": host_config})
        except APIError as error:
            self.taken = error.status_code == HTTPStatus.CONFLICT
            raise

    def attach(self) -> None:
        raw = self.client.attach_socket(self.name, params={"stdout": 1, "stderr": 1, "stream": 1})
        self.attachment = _Attachment(raw)

    def start(self) -> None:
        self.client.start(self.name)

    def follow(self) -> bool:
        """Collect the output, then wait for the end. Whether there was too much output, for which it was killed.

        The attachment is closed before the kill: an engine waits with the end of a container until its output is read.
        A program that ended before the kill has written too much all the same.
        """
        flooded = self.attachment is not None and self.attachment.drain(self.output, self.output_limit)
        if flooded:
            self.kill()
        while not self._wait():
            if self.abandoned.is_set():
                raise TimeoutError
        return flooded

    def kill(self) -> bool:
        """Kill it. False if it had ended by itself."""
        try:
            self.client.kill(self.name)
        except APIError as error:
            if error.status_code in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                return False
            raise
        self.killed = True
        return True

    def account(self) -> dict[str, Any]:
        """The engine's account of it and how it ended.

        Raises:
            InterruptedError: Somebody else ended it: an operator, or an engine that shuts down and still answers.
        """
        account: dict[str, Any] = self.client.inspect_container(self.name)
        state = account["State"]
        if state["ExitCode"] and not self.killed and self._was_signalled(state["StartedAt"]):
            raise InterruptedError
        return account

    def written(self) -> int | None:
        """Bytes that it has written outside of its mounts, volumes of its image included; None if it is not there."""
        found = self.client.containers(all=True, size=True, filters={"name": f"^/{self.name}$"})
        listed = next((each for each in found if f"/{self.name}" in each["Names"]), None)
        if listed is None:
            return None
        volumes = {mount["Name"] for mount in listed["Mounts"] if mount["Type"] == "volume"}
        return int(listed.get("SizeRw", 0)) + (self._stored(volumes) if volumes else 0)

    def abandon(self) -> None:
        """Make ``follow`` return soon."""
        self.abandoned.set()
        if self.attachment:
            self.attachment.cut()

    def remove(self) -> None:
        """Remove it, however far it got. A container that had the name before is somebody else's."""
        if not self.taken:
            _remove(self.client, self.name)
            if self.meter:
                self.meter.remove()
        if self.attachment:
            self.attachment.close()

    def _stored(self, volumes: set[str]) -> int:
        """Bytes in volumes; the engine tells them only with all it has."""
        every = self.client.df()["Volumes"] or []
        return sum(max(0, each["UsageData"]["Size"]) for each in every if each["Name"] in volumes)

    def _was_signalled(self, since: str) -> bool:
        """Whether the engine was told to signal it. What a program does to itself the engine does not see."""
        times = {"since": f"{datetime.fromisoformat(since).timestamp():f}", "until": f"{time.time():f}"}
        kills = {"container": [self.name], "event": ["kill"]}
        events: Callable[..., Iterator[object]] = self.client.events  # times may be fractions, whatever its types say
        return any(events(**times, filters=kills, decode=True))

    def _wait(self) -> bool:
        try:
            self.client.wait(self.name, timeout=WAIT_SLICE)
        except (Timeout, HTTPConnectionError) as error:
            if isinstance(error, Timeout) or any(isinstance(arg, ReadTimeoutError) for arg in error.args):
                return False
            raise
        return True


@dataclass(frozen=True, slots=True)
class _Image:
    """An image as it is on this host: its id, a digest, and where its containers get volumes."""

    id: str
    volumes: Sequence[str]


class _Images:
    """The images on this host. What is here is used as it is, and refreshed behind the jobs' back."""

    def __init__(self, engine: _Engine, puller: _Client, *, refresh_interval: float, pull_timeout: float) -> None:
        self._engine = engine
        self._puller = puller
        self._refresh_interval = refresh_interval
        self._pull_timeout = pull_timeout
        self._seen: dict[str, float] = {}
        self._known: dict[str, _Image] = {}
        self._fresh: dict[str, float] = {}
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._missing = asyncio.Semaphore(PULLS)
        self._refreshing = asyncio.Semaphore(1)

    async def ensure(self, image: str) -> float:
        """Return when the image is here: after how many seconds. Callers that want the same one wait for one pull."""
        if not is_image_name(image):
            raise ContainerError(f"image {image}: this is no name of an image", phase=FaultPhase.PULL, retryable=False)
        now = time.monotonic()
        if now - self._seen.get(image, -SEEN_FOR) >= SEEN_FOR:
            await self._look(image)
            self._seen[image] = now
        if now - self._fresh.get(image, -self._refresh_interval) >= self._refresh_interval:
            self._begin(image, self._refreshing)
        return time.monotonic() - now

    async def find(self, image: str, phase: FaultPhase) -> _Image:
        """An image that is here, as it was when it was last looked at.

        Raises:
            ContainerError: It is not here, in the given phase.
        """
        if image not in self._known:
            try:
                await self._inspect(image)
            except _TROUBLE as error:
                raise _fault(error, phase, f"image {image}") from error
        return self._known[image]

    def forget(self, image: str) -> None:
        """Look next time: the image turned out not to be here."""
        self._seen.pop(image, None)
        self._known.pop(image, None)

    def export(self, image_id: str) -> Iterator[bytes]:
        """An image's archive, with as much patience as for pulls; blocks."""
        chunks: Iterator[bytes] = self._puller.get_image(image_id)
        return chunks

    async def close(self) -> None:
        for pull in self._pulls.values():
            pull.cancel()
        await asyncio.gather(*self._pulls.values(), return_exceptions=True)

    async def _look(self, image: str) -> None:
        try:
            await self._inspect(image)
        except NotFound:
            await self._obtain(image)
        except _TROUBLE as error:
            raise _fault(error, FaultPhase.PULL, f"image {image}") from error

    async def _inspect(self, image: str) -> None:
        told = await self._engine.call(self._engine.client.inspect_image, image)
        self._known[image] = _Image(str(told["Id"]), tuple((told.get("Config") or {}).get("Volumes") or ()))

    async def _obtain(self, image: str) -> None:
        pull = self._begin(image, self._missing)
        try:
            async with asyncio.timeout(self._pull_timeout):
                await asyncio.shield(pull)
        except TimeoutError as error:
            reason = f"image {image}: not pulled within {self._pull_timeout:g} s"
            raise ContainerError(reason, phase=FaultPhase.PULL, retryable=True) from error
        except _TROUBLE as error:
            raise _fault(error, FaultPhase.PULL, f"image {image}") from error

    def _begin(self, image: str, gate: asyncio.Semaphore) -> asyncio.Task[None]:
        """The pull of an image, the running one if there is one."""
        if image not in self._pulls:
            self._fresh[image] = time.monotonic()
            self._pulls[image] = task = asyncio.create_task(self._pull(image, gate))
            task.add_done_callback(partial(self._pulled, image))
        return self._pulls[image]

    async def _pull(self, image: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            await _in_own_thread(partial(_pull, self._puller, image, self._pull_timeout))

    def _pulled(self, image: str, pull: asyncio.Task[None]) -> None:
        del self._pulls[image]
        self._known.pop(image, None)
        if not pull.cancelled() and (error := pull.exception()):
            log.debug("image not pulled", image=image, error=str(error))


class DockerContainers:
    """A Docker Engine as the grader sees it."""

    def __init__(
        self,
        engine: _Engine,
        images: _Images,
        *,
        slots: int,
        limits: Limits,
        hosts: Path | None,
        abilities: Abilities,
    ) -> None:
        self._slots = slots
        self._abilities = abilities
        self._engine = engine
        self._images = images
        self._limits = limits
        self._hosts = hosts
        self._prepared: dict[str, _Prepared] = {}
        self._removals: set[asyncio.Task[None]] = set()
        self._leftovers: set[asyncio.Task[None]] = set()
        self._turns = Turns(max(1, abilities.cpus // CPUS_OF_A_START))

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

        ``slots`` stages may run at a time. ``work_dir`` is a directory that the engine finds under the same path; it
        gets a hosts file, without which the name localhost does not resolve in stages that have no network. Times are
        in seconds.

        Raises:
            ContainerError: No engine answers.
        """
        threads = concurrent.futures.ThreadPoolExecutor(4 * slots + 2, thread_name_prefix="containers")
        with contextlib.ExitStack() as stack:
            stack.callback(threads.shutdown, wait=False, cancel_futures=True)
            client = await finish(_in_own_thread(partial(_connect, docker_host, pool=4 * slots + 2)))
            stack.callback(client.close)
            puller = _client(docker_host, version=client.api_version, timeout=math.ceil(pull_timeout), pool=PULLS + 1)
            stack.callback(puller.close)
            engine = _Engine(client, threads)
            images = _Images(engine, puller, refresh_interval=refresh_interval, pull_timeout=pull_timeout)
            hosts = hosts_file(work_dir) if work_dir else None
            abilities = await engine.call(_abilities, client, limits.runtime)
            containers = cls(engine, images, slots=slots, limits=limits, hosts=hosts, abilities=abilities)
            try:
                yield containers
            finally:
                await finish(containers.close())

    async def close(self) -> None:
        """Stop what goes on in the background. Containers whose removal kept failing stay, for ``remove_orphans``."""
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
        except _TROUBLE as error:
            raise ContainerError(
                f"the engine does not answer: {error}"[:400], phase=FaultPhase.CREATE, retryable=True
            ) from error

    async def ensure_images(self, images: Sequence[str]) -> Mapping[str, float]:
        """See ``Containers``. No image that is here makes a job wait, whatever its registry does."""
        names = list(dict.fromkeys(images))
        return dict(zip(names, await asyncio.gather(*map(self._images.ensure, names)), strict=True))

    async def image_id(self, image: str, phase: FaultPhase) -> str:
        """The id, a digest, of an image that is on this host.

        Raises:
            ContainerError: In the given phase.
        """
        try:
            return str((await self._engine.call(self._engine.client.inspect_image, image))["Id"])
        except _TROUBLE as error:
            if isinstance(error, ImageNotFound):
                self._images.forget(image)
            raise _fault(error, phase, f"image {image}") from error

    def export(self, image_id: str) -> Iterator[bytes]:
        """An image's archive, as `docker save` makes it; blocks.

        Raises:
            OSError: The engine failed.
        """
        try:
            yield from self._images.export(image_id)
        except _TROUBLE as error:
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
            created = await prepared.making
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
            await end(prepared.making)
            await self._discard_behind(prepared.container)

    async def remove_orphans(self, is_orphan: Callable[[str, str], bool]) -> int:
        """See ``Containers``. Those that cannot be removed while the engine is away are left for the next call."""
        client, removed = self._engine.client, 0
        try:
            found = await self._engine.call(client.containers, all=True, filters={"label": [f"{LABEL}grader"]})
            for each in found:
                if is_orphan(each["Labels"][f"{LABEL}grader"], each["Labels"].get(f"{LABEL}boot", "")):
                    await self._engine.call(_remove, client, each["Id"])
                    self._give_groups_back(each["Names"])
                    removed += 1
            alive = {name for each in found for name in each["Names"]}
            remove_abandoned(lambda name: f"/{name}" not in alive)
        except _TROUBLE as error:
            log.warning("orphaned containers not removed", error=type(error).__name__)
        return removed

    def _give_groups_back(self, names: Sequence[str]) -> None:
        for name in names if self._abilities.is_metered else ():
            Meter(name.removeprefix("/")).remove()

    def _allows(self, stage: Stage) -> bool:
        return self._limits.allow_privileged or not stage.privileged

    def _prepare(self, stage: Stage, mounts: Sequence[Mount], labels: Labels, *, ahead: float = 0.0) -> "_Prepared":
        """Begin to make a container that is started in so many seconds at most."""
        container = self._container(stage, mounts, labels, ahead=ahead)
        making = asyncio.create_task(self._make(container, stage))
        making.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may want to know
        return _Prepared(container, making)

    def _container(self, stage: Stage, mounts: Sequence[Mount], labels: Labels, *, ahead: float) -> _Container:
        options = container_options(stage, labels, limits=self._limits, mounts=mounts, hosts=self._hosts, ahead=ahead)
        name = _name(labels)
        meter = Meter(name) if self._abilities.is_metered else None
        if meter:
            options["host_config"]["cgroup_parent"] = meter.parent
        if stage.untrusted and self._abilities.seccomp:
            options["host_config"]["security_opt"].append(f"seccomp={self._abilities.seccomp}")
        if not stage.untrusted and self._abilities.has_quotas:
            options["host_config"]["storage_opt"] = disk_quota(self._limits)
        return _Container(
            client=self._engine.client,
            name=name,
            options=options,
            meter=meter,
            output=OutputLog(head=self._limits.kept_head, tail=self._limits.kept_tail),
            output_limit=self._limits.output,
            disk_limit=math.inf if stage.untrusted else self._limits.disk,
        )

    async def _make(self, container: _Container, stage: Stage) -> float:
        """Make a container, and follow its output; how many seconds making it took."""
        begun, what = time.monotonic(), f"image {stage.image}"
        if stage.untrusted:
            image = await self._images.find(stage.image, FaultPhase.CREATE)
            container.options = without_volumes(container.options, image.id, image.volumes)
        await self._step(container.create, FaultPhase.CREATE, what)
        created = time.monotonic()
        await self._step(container.attach, FaultPhase.START, what)
        return created - begun

    async def _run(
        self, container: _Container, stage: Stage, create_seconds: float, upcoming: Upcoming | None
    ) -> StageRun:
        what = f"image {stage.image}"
        disk = DiskWatch(container.disk_limit, self._abilities.data, partial(self._written, container))
        disk.begin()
        made = time.monotonic()
        async with self._turns.take():
            await self._step(container.start, FaultPhase.START, f"{what}, entrypoint {stage.entrypoint}"[:400])
        running = time.monotonic()
        if upcoming and self._allows(upcoming.stage):
            self._prepared[_name(upcoming.labels)] = self._prepare(
                upcoming.stage, upcoming.mounts, upcoming.labels, ahead=stage.timeout
            )
        killed_for = await self._watch(container, disk, stage.timeout, what)
        account = await self._step(container.account, FaultPhase.COLLECT, what)
        state, meter = account["State"], container.meter
        text, streams = container.output.kept() if stage.logs else ("", [])
        started, finished = (datetime.fromisoformat(state[key]) for key in ("StartedAt", "FinishedAt"))
        finished = max(started, finished)  # an engine notes the start of a very short stage after its end
        self._turns.note((finished - started).total_seconds())
        return StageRun(
            exit_code=state["ExitCode"],
            killed_for=killed_for,
            oom_killed=state["OOMKilled"],
            started_at=started,
            finished_at=finished,
            output=text,
            streams=streams,
            output_bytes=container.output.total,
            state=state,
            usage=Usage(
                image=account["Image"],
                create_seconds=create_seconds,
                start_seconds=running - made,
                cpu_seconds=meter.cpu_seconds() if meter else None,
                peak_memory=meter.peak_memory() if meter else None,
            ),
        )

    async def _step(self, step: Callable[[], T], phase: FaultPhase, what: str) -> T:
        try:
            return await self._engine.call(step)
        except _TROUBLE as error:
            raise _fault(error, phase, what) from error

    async def _written(self, container: _Container) -> int | None:
        try:
            return await self._engine.call(container.written)
        except _TROUBLE as error:
            log.debug("size of a container not told", container=container.name, error=type(error).__name__)
            return None

    async def _watch(
        self,
        container: _Container,
        disk: DiskWatch,
        timeout: float,  # noqa: ASYNC109
        what: str,
    ) -> KilledFor | None:
        """Wait for a container's end, or make it end; which of its limits it did not keep."""
        follower = self._engine.begin(container.follow)
        follower.add_done_callback(lambda future: future.cancelled() or future.exception())  # it may be left alone
        reason = await _due(follower, disk, timeout)
        killed = reason is not None and await self._step(container.kill, FaultPhase.WAIT, what)
        await asyncio.wait({follower}, timeout=KILL_GRACE)
        if not follower.done():
            raise ContainerError(f"{what}: did not end when killed", phase=FaultPhase.WAIT, retryable=True)
        try:
            flooded = follower.result()
        except _TROUBLE as error:
            raise _fault(error, FaultPhase.WAIT, what) from error
        if flooded:
            return KilledFor.OUTPUT
        if killed:
            return reason
        return KilledFor.DISK if await disk.was_exceeded() else None

    async def _discard_behind(self, container: _Container) -> None:
        """Begin to remove a container that has ended: nobody waits for that, unless removals do not keep up."""
        removal = asyncio.create_task(self._discard(container))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        while len(self._removals) > self._slots:
            await asyncio.wait(self._removals, return_when=asyncio.FIRST_COMPLETED)

    async def _discard(self, container: _Container) -> None:
        """Remove a container, now or when the engine is back."""
        try:
            await self._engine.call(container.remove)
        except _TROUBLE as error:
            log.warning("container not removed yet", container=container.name, error=type(error).__name__)
            leftover = asyncio.create_task(self._remove_later(container))
            self._leftovers.add(leftover)
            leftover.add_done_callback(self._leftovers.discard)

    async def _remove_later(self, container: _Container) -> None:
        for delay in itertools.chain((1, 2, 4), itertools.repeat(5)):
            await asyncio.sleep(delay)
            with contextlib.suppress(*_TROUBLE):
                return await self._engine.call(container.remove)
        return None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A container that is being made, or has been."""

    container: _Container
    making: asyncio.Task[float]


async def _due(
    follower: asyncio.Future[bool],
    disk: DiskWatch,
    timeout: float,  # noqa: ASYNC109
) -> KilledFor | None:
    """Wait until a container has ended, or is to be killed: ``timeout`` seconds from now, or for what it writes."""
    exceeded = asyncio.create_task(disk.exceeded())
    either: set[asyncio.Future[Any]] = {follower, exceeded}
    try:
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if follower.done():
            return None
        return KilledFor.DISK if exceeded.done() else KilledFor.TIME
    finally:
        await end(exceeded)


def _name(labels: Labels) -> str:
    """What a stage's container is called."""
    return f"{_NAME}{re.sub(r'[^A-Za-z0-9_.-]', '-', labels.execution_id)}-{labels.stage}"


def _fault(error: Exception, phase: FaultPhase, what: str) -> ContainerError:
    """An error of the SDK as the reader of a job's result should see it: without host paths, addresses and values."""
    if isinstance(error, ImageNotFound):
        was_here = phase is not FaultPhase.PULL  # when the job began; the next attempt pulls it
        return ContainerError(f"{what}: not found", phase=phase, retryable=was_here)
    if isinstance(error, APIError):
        text = error.explanation or ""
        retryable = not _is_stages_fault(error, text, phase)
        return ContainerError(f"{what}: {_public(text)}", phase=phase, retryable=retryable)
    if isinstance(error, DockerException):  # refused by the SDK, or an error in the middle of a pull
        retryable = phase is FaultPhase.PULL and "not found" not in str(error)
        return ContainerError(f"{what}: {_public(str(error))}", phase=phase, retryable=retryable)
    if isinstance(error, InterruptedError):
        return ContainerError(f"{what}: the container was ended from outside", phase=FaultPhase.WAIT, retryable=True)
    reason = f"the container engine does not answer ({type(error).__name__})"
    return ContainerError(reason, phase=phase, retryable=True)


def _public(text: str) -> str:
    """What an engine says, without what the reader of a result is not to see."""
    return _PRIVATE.sub(" ...", _NOISE.sub("", text))[:400]


def _is_stages_fault(error: APIError, text: str, phase: FaultPhase) -> bool:
    """Whether what the stage asks for, not the engine, is to blame."""
    if phase not in {FaultPhase.PULL, FaultPhase.CREATE, FaultPhase.START} or _HOSTS_FAULT.search(text):
        return False
    return error.status_code in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND} or bool(_STAGES_FAULT.search(text))


def _in_own_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Begin a call that may hang for long, in a thread that does not keep the program from ending."""
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()  # from now on nobody can cancel it under the thread's hands

    def work() -> None:
        try:
            done.set_result(call())
        except Exception as error:  # noqa: BLE001 - whoever awaits gets it
            done.set_exception(error)

    threading.Thread(target=work, daemon=True, name="pull").start()
    return asyncio.wrap_future(done)


def _client(docker_host: str | None, *, version: str, timeout: int, pool: int) -> _Client:
    environment = {**os.environ, **({"DOCKER_HOST": docker_host} if docker_host else {})}
    options = docker.utils.kwargs_from_env(environment=environment)
    client = _Client(version=version, timeout=timeout, max_pool_size=pool, **options)
    if isinstance(adapter := client.get_adapter(client.base_url), UnixHTTPAdapter):
        client.trust_env = False  # no proxies: looking them up takes a third of every call
        client.mount(client.base_url, _Socket(adapter.socket_path, timeout, pool_connections=1, max_pool_size=pool))
    return client


def _connect(docker_host: str | None, *, pool: int) -> _Client:
    try:
        return _client(docker_host, version="auto", timeout=CALL_TIMEOUT, pool=pool)
    except _TROUBLE as error:
        place = docker_host or os.environ.get("DOCKER_HOST") or "this host's default socket"
        reason = f"no container engine answers at {place} (DOCKER_HOST): {error}"
        raise ContainerError(reason, phase=FaultPhase.CREATE, retryable=True) from error


def _abilities(client: _Client, runtime: str | None) -> Abilities:
    """What the engine can do; as little as can be, if it does not tell."""
    is_here = client.base_url.startswith("http+docker:")
    try:
        return Abilities.of(client.info(), runtime=runtime, is_here=is_here)
    except _TROUBLE:
        return Abilities()


def _pull(client: _Client, image: str, limit: float) -> None:
    deadline = time.monotonic() + limit
    for progress in client.pull(image, stream=True, decode=True):
        if "error" in progress:
            raise DockerException(progress["error"])
        if time.monotonic() > deadline:
            raise TimeoutError


def _remove(client: _Client, container: str) -> None:
    with contextlib.suppress(NotFound):
        client.remove_container(container, v=True, force=True)

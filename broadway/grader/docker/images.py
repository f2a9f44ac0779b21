"""The images on this host."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import structlog
from docker.errors import DockerException, NotFound

from broadway.domain.assignment import is_image_name
from broadway.domain.job import FaultPhase
from broadway.grader.docker.engine import ENGINE_ERRORS, Client, Engine
from broadway.grader.docker.failures import Failures
from broadway.grader.docker.faults import fault
from broadway.grader.docker.registries import demand_elsewhere, neutral
from broadway.grader.ports import ContainerError
from broadway.grader.sandbox.architectures import mismatch
from broadway.grader.sandbox.engine_features import EngineFeatures
from broadway.runtime.threads import in_own_thread

log = structlog.get_logger(__name__)

SEEN_FOR = 30.0  # seconds for which an image that was found here is assumed to be here still
PULLS = 3  # missing images of one registry that are pulled at a time


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this host: its id, a digest, and its config in the engine's form."""

    id: str
    config: Mapping[str, Any]

    @property
    def volumes(self) -> Sequence[str]:
        """The paths at which its containers get volumes."""
        return tuple(self.config.get("Volumes") or ())


class Images:
    """The images on this host. An image that is here is used as it is, and refreshed in the background."""

    def __init__(
        self,
        engine: Engine,
        puller: Client,
        host: EngineFeatures,
        *,
        refresh_interval: float,
        pull_timeout: float,
        allow_local_registries: bool = False,
    ) -> None:
        self._engine = engine
        self._host = host
        self._allow_local_registries = allow_local_registries
        self._puller = puller
        self._refresh_interval = refresh_interval
        self._pull_timeout = pull_timeout
        self._seen: dict[str, float] = {}
        self._known: dict[str, Image] = {}
        self._fresh: dict[str, float] = {}
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._missing: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by registry
        self._refreshing = asyncio.Semaphore(1)
        self._failures = Failures()

    async def ensure(self, image: str) -> float:
        """Return once an image is here, with the seconds that it took. Callers of the same image share one pull.

        Raises:
            ContainerError: The image cannot be had; the phase is pull.
        """
        if not is_image_name(image):
            raise ContainerError(f"image {image}: not the name of an image", phase=FaultPhase.PULL, retryable=False)
        now = time.monotonic()
        if now - self._seen.get(image, -SEEN_FOR) >= SEEN_FOR:
            await self._find_or_pull(image)
            self._seen[image] = now
        if now - self._fresh.get(image, -self._refresh_interval) >= self._refresh_interval:
            self._begin(image, self._refreshing)
        return time.monotonic() - now

    async def find(self, image: str, phase: FaultPhase) -> Image:
        """Return an image that is here, as it was when last inspected.

        Raises:
            ContainerError: It is not here, or the engine failed; the phase is the given one.
        """
        if image not in self._known:
            try:
                await self._inspect(image)
            except ENGINE_ERRORS as error:
                raise fault(error, phase, f"image {image}") from error
        return self._known[image]

    def forget(self, image: str) -> None:
        """Inspect the image again at its next use, since it was found missing."""
        self._seen.pop(image, None)
        self._known.pop(image, None)

    def export(self, image_id: str) -> Iterator[bytes]:
        """Return an image's archive in chunks, with the timeout of pulls; blocks."""
        chunks: Iterator[bytes] = self._puller.get_image(image_id)
        return chunks

    async def close(self) -> None:
        for pull in self._pulls.values():
            pull.cancel()
        await asyncio.gather(*self._pulls.values(), return_exceptions=True)

    async def _find_or_pull(self, image: str) -> None:
        try:
            try:
                await self._inspect(image)
            except NotFound:
                await self._obtain(image)
                await self._inspect(image)
        except ENGINE_ERRORS as error:
            raise fault(error, FaultPhase.PULL, f"image {image}") from error

    async def _inspect(self, image: str) -> None:
        """Read an image's description.

        Raises:
            ContainerError: The image is made for another architecture.
        """
        details = await self._engine.call(self._engine.client.inspect_image, image)
        platform = f"{details.get('Os') or ''}/{details.get('Architecture') or ''}"
        if problem := mismatch(platform, self._host.architecture, emulators=self._host.emulators):
            raise ContainerError(f"image {image}: {problem}", phase=FaultPhase.PULL, retryable=False)
        self._known[image] = Image(str(details["Id"]), details.get("Config") or {})

    async def _obtain(self, image: str) -> None:
        """Pull an image that is not here, unless its latest pulls have failed.

        Raises:
            ContainerError: The image cannot be had; the phase is pull.
        """
        await self._demand_allowed(image)
        self._failures.check(image)
        pull = self._begin(image, self._missing.setdefault(_registry(image), asyncio.Semaphore(PULLS)))
        try:
            async with asyncio.timeout(self._pull_timeout):
                await asyncio.shield(pull)
        except ENGINE_ERRORS as error:
            raise self._fault(image, error) from error

    def _fault(self, image: str, error: Exception) -> ContainerError:
        if isinstance(error, TimeoutError):
            reason = f"image {image}: not pulled within {self._pull_timeout:g} s"
            return ContainerError(reason, phase=FaultPhase.PULL, retryable=True)
        log.warning("image not pulled", image=image, error=str(error))
        return fault(neutral(error), FaultPhase.PULL, f"image {image}")

    async def _demand_allowed(self, image: str) -> None:
        if not self._allow_local_registries:
            await demand_elsewhere(image)

    def _begin(self, image: str, gate: asyncio.Semaphore) -> asyncio.Task[None]:
        """Return the running pull of an image, or start one."""
        if image not in self._pulls:
            self._fresh[image] = time.monotonic()
            self._pulls[image] = task = asyncio.create_task(self._pull(image, gate))
            task.add_done_callback(partial(self._pulled, image))
        return self._pulls[image]

    async def _pull(self, image: str, gate: asyncio.Semaphore) -> None:
        await self._demand_allowed(image)  # a refresh, too: the image is here, but its registry may be anywhere
        async with gate:
            await in_own_thread(partial(_pull, self._puller, image, self._pull_timeout), name="pull")

    def _pulled(self, image: str, pull: asyncio.Task[None]) -> None:
        del self._pulls[image]
        self.forget(image)
        error = None if pull.cancelled() else pull.exception()
        if error is None:
            self._failures.forget(image)
            return
        log.debug("image not pulled", image=image, error=str(error))
        if isinstance(error, DockerException | TimeoutError):  # the registry's answer, or its silence
            self._failures.note(image, self._fault(image, error))


def _pull(client: Client, image: str, limit: float) -> None:
    deadline = time.monotonic() + limit
    for progress in client.pull(image, stream=True, decode=True):
        if "error" in progress:
            raise DockerException(progress["error"])
        if time.monotonic() > deadline:
            raise TimeoutError


def _registry(image: str) -> str:
    """Return the registry in an image's name, or an empty text for the engine's default."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else ""

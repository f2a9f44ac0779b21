"""The images on this host."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from docker.errors import DockerException, NotFound

from broadway.domain.assignment import is_image_name
from broadway.domain.job import FaultPhase
from broadway.grader.docker.engine import ENGINE_ERRORS, Client, Engine
from broadway.grader.docker.faults import fault
from broadway.grader.docker.registries import demand_elsewhere, neutral
from broadway.grader.ports import ContainerError
from broadway.runtime.threads import in_own_thread

log = structlog.get_logger(__name__)

SEEN_FOR = 30.0  # seconds for which an image that was found here is assumed to be here still
PULLS = 3  # missing images that are pulled at a time


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this host: its id, a digest, and the paths at which its containers get volumes."""

    id: str
    volumes: Sequence[str]


class Images:
    """The images on this host. An image that is here is used as it is, and refreshed in the background."""

    def __init__(
        self,
        engine: Engine,
        puller: Client,
        *,
        refresh_interval: float,
        pull_timeout: float,
        allow_local_registries: bool = False,
    ) -> None:
        self._engine = engine
        self._allow_local_registries = allow_local_registries
        self._puller = puller
        self._refresh_interval = refresh_interval
        self._pull_timeout = pull_timeout
        self._seen: dict[str, float] = {}
        self._known: dict[str, Image] = {}
        self._fresh: dict[str, float] = {}
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._missing = asyncio.Semaphore(PULLS)
        self._refreshing = asyncio.Semaphore(1)

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
            await self._inspect(image)
        except NotFound:
            await self._obtain(image)
        except ENGINE_ERRORS as error:
            raise fault(error, FaultPhase.PULL, f"image {image}") from error

    async def _inspect(self, image: str) -> None:
        details = await self._engine.call(self._engine.client.inspect_image, image)
        self._known[image] = Image(str(details["Id"]), tuple((details.get("Config") or {}).get("Volumes") or ()))

    async def _obtain(self, image: str) -> None:
        await self._demand_allowed(image)
        pull = self._begin(image, self._missing)
        try:
            async with asyncio.timeout(self._pull_timeout):
                await asyncio.shield(pull)
        except TimeoutError as error:
            reason = f"image {image}: not pulled within {self._pull_timeout:g} s"
            raise ContainerError(reason, phase=FaultPhase.PULL, retryable=True) from error
        except ENGINE_ERRORS as error:
            log.warning("image not pulled", image=image, error=str(error))
            raise fault(neutral(error), FaultPhase.PULL, f"image {image}") from error

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
        self._known.pop(image, None)
        if not pull.cancelled() and (error := pull.exception()):
            log.debug("image not pulled", image=image, error=str(error))


def _pull(client: Client, image: str, limit: float) -> None:
    deadline = time.monotonic() + limit
    for progress in client.pull(image, stream=True, decode=True):
        if "error" in progress:
            raise DockerException(progress["error"])
        if time.monotonic() > deadline:
            raise TimeoutError

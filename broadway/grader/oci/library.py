"""Images by name, ready to run: resolved at their source, unpacked once, and kept open while they are used."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from broadway.domain.job import FaultPhase
from broadway.grader.oci.entries import LayerError
from broadway.grader.oci.faults import describe
from broadway.grader.oci.images import Image, Store
from broadway.grader.oci.origins import Origin
from broadway.grader.ports import ContainerError

log = structlog.get_logger(__name__)

SEEN_FOR = 30.0  # seconds for which a name is assumed to refer to the same image
COLLECT_INTERVAL = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Keeping:
    """The unused images to keep: those used within ``unused_for`` seconds, as long as all have at most ``size`` bytes.

    A ``size`` of None means any.
    """

    unused_for: float
    size: int | None = None


class Library:
    """Images of an origin, unpacked in a store.

    Args:
        store: The cache of unpacked images.
        origin: The place from which images come.
        keeping: The unused images to keep.
    """

    def __init__(self, store: Store, origin: Origin, keeping: Keeping) -> None:
        self._store = store
        self._origin = origin
        self._keeping = keeping
        self._names: dict[str, tuple[str, float]] = {}
        self._open: dict[str, Image] = {}
        self._uses: Counter[str] = Counter()
        self._opening: dict[str, asyncio.Lock] = {}

    async def ensure(self, name: str) -> None:
        """Unpack an image if necessary, and return once it is in the cache.

        Raises:
            ContainerError: The image cannot be had; the phase is pull.
        """
        await self._origin.ensure(name)
        await self._image(name, FaultPhase.PULL)

    @contextlib.asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Image]:
        """Yield an image, which is not removed within the context.

        Raises:
            ContainerError: The image cannot be had; the phase is create, since jobs ensure their images before.
        """
        image = await self._image(name, FaultPhase.CREATE)
        self._uses[image.id] += 1
        try:
            yield image
        finally:
            self._uses[image.id] -= 1

    async def keep_small(self) -> None:
        """Remove images that were not used for long, now and at intervals, until cancelled."""
        while True:
            for image_id in [each for each in self._open if not self._uses[each]]:
                self._open.pop(image_id).close()
            try:
                removed = await asyncio.to_thread(self._collect)
            except OSError as error:
                log.warning("unused images not removed", reason=describe(error))
            else:
                if removed:
                    log.info("unused images removed", count=removed)
            await asyncio.sleep(COLLECT_INTERVAL)

    def _collect(self) -> int:
        self._origin.collect()
        return self._store.collect(self._keeping.unused_for, self._keeping.size)

    def close(self) -> None:
        for image in self._open.values():
            image.close()
        self._open.clear()

    async def _image(self, name: str, phase: FaultPhase) -> Image:
        image_id = await self._id(name, phase)
        async with self._opening.setdefault(image_id, asyncio.Lock()):
            if image_id not in self._open:
                self._open[image_id] = await self._unpacked(name, image_id, phase)
        return self._open[image_id]

    async def _id(self, name: str, phase: FaultPhase) -> str:
        image_id, seen = self._names.get(name, ("", 0.0))
        if not image_id or time.monotonic() - seen > SEEN_FOR:
            image_id = await self._origin.find(name, phase)
            self._names[name] = image_id, time.monotonic()
        return image_id

    async def _unpacked(self, name: str, image_id: str, phase: FaultPhase) -> Image:
        try:
            if image := await asyncio.to_thread(self._store.get, image_id):
                return image
            return await asyncio.to_thread(self._store.add, image_id, self._origin.source(name, image_id))
        except LayerError as error:
            raise ContainerError(f"image {name}: {error}"[:400], phase=phase, retryable=False) from error
        except OSError as error:
            reason = f"image {name}: not unpacked: {describe(error)}"
            raise ContainerError(reason, phase=phase, retryable=True) from error

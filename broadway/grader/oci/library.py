"""Images by name, ready to run: resolved at their source, unpacked once, and kept open while they are used."""

import asyncio
import contextlib
import platform
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import structlog

from broadway.domain.job import FaultPhase
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.oci.faults import describe
from broadway.grader.oci.images import Image, Source, Store
from broadway.grader.oci.layers import LayerError
from broadway.grader.oci.sources import Contents, Layout, saved
from broadway.grader.ports import ContainerError

log = structlog.get_logger(__name__)

SEEN_FOR = 30.0  # seconds for which a name is assumed to refer to the same image
COLLECT_INTERVAL = 3600.0  # seconds


class Library:
    """Images of an engine or of a layout, unpacked in a store.

    Args:
        store: The cache of unpacked images.
        engine: The source of images.
        layout: The source of images if there is no engine.
        unused_for: Seconds after which an unused image is removed from the cache.
    """

    def __init__(
        self, store: Store, *, engine: DockerContainers | None, layout: Layout | None, unused_for: float
    ) -> None:
        self._store = store
        self._engine = engine
        self._layout = layout
        self._unused_for = unused_for
        self._names: dict[str, tuple[str, float]] = {}
        self._open: dict[str, Image] = {}
        self._uses: Counter[str] = Counter()
        self._opening: dict[str, asyncio.Lock] = {}

    async def ensure(self, name: str) -> None:
        """Unpack an image if necessary, and return once it is in the cache.

        Raises:
            ContainerError: The image cannot be had; the phase is pull.
        """
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
                removed = await asyncio.to_thread(self._store.collect, self._unused_for)
            except OSError as error:
                log.warning("unused images not removed", reason=describe(error))
            else:
                if removed:
                    log.info("unused images removed", count=removed)
            await asyncio.sleep(COLLECT_INTERVAL)

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
            image_id = await self._find(name, phase)
            self._names[name] = image_id, time.monotonic()
        return image_id

    async def _find(self, name: str, phase: FaultPhase) -> str:
        if self._layout is None:
            assert self._engine is not None  # noqa: S101 - there is an engine or a layout
            return await self._engine.image_id(name, phase)
        try:
            found = await asyncio.to_thread(self._layout.find, name, platform.machine())
        except LayerError as error:
            raise ContainerError(f"image {name}: {error}", phase=phase, retryable=False) from error
        if found is None:
            raise ContainerError(f"image {name}: not found", phase=phase, retryable=False)
        return found

    async def _unpacked(self, name: str, image_id: str, phase: FaultPhase) -> Image:
        try:
            if image := await asyncio.to_thread(self._store.get, image_id):
                return image
            return await asyncio.to_thread(self._store.add, image_id, self._source(name, image_id))
        except LayerError as error:
            raise ContainerError(f"image {name}: {error}"[:400], phase=phase, retryable=False) from error
        except OSError as error:
            reason = f"image {name}: not unpacked: {describe(error)}"
            raise ContainerError(reason, phase=phase, retryable=True) from error

    def _source(self, name: str, image_id: str) -> Source:
        if self._layout is not None:
            layout = self._layout
            return lambda _directory: layout.open(name, platform.machine())
        assert self._engine is not None  # noqa: S101 - there is an engine or a layout
        return partial(_exported, self._engine, image_id)


@contextlib.contextmanager
def _exported(engine: DockerContainers, image_id: str, directory: Path) -> Iterator[Contents]:
    archive = directory / "saved.tar"
    try:
        with archive.open("xb") as file:
            file.writelines(engine.export(image_id))
        with saved(archive) as contents:
            yield contents
    finally:
        archive.unlink(missing_ok=True)

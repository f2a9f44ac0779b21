"""The origins of images: an engine, an OCI layout; ``pulls`` has registries and archives."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from broadway.domain.job import FaultPhase
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.oci.entries import LayerError
from broadway.grader.oci.images import Source
from broadway.grader.oci.sources import Contents, Layout, saved
from broadway.grader.ports import ContainerError


class Origin(Protocol):
    """A place from which images come into a store."""

    async def ensure(self, name: str) -> None:
        """Return once the image is at hand.

        Raises:
            ContainerError: The image cannot be had; the phase is pull.
        """

    async def find(self, name: str, phase: FaultPhase) -> str:
        """Return the id of an image that is at hand.

        Raises:
            ContainerError: It is not at hand; the phase is the given one.
        """

    def source(self, name: str, image_id: str) -> Source:
        """Return the function that opens the contents of an image."""

    def collect(self) -> None:
        """Remove temporary files that nothing uses; blocks."""

    async def close(self) -> None:
        """End the work in the background."""


@dataclass(frozen=True, slots=True)
class OfEngine:
    """The images of an engine, which pulls them."""

    engine: DockerContainers

    async def ensure(self, name: str) -> None:
        await self.engine.ensure_images([name])

    async def find(self, name: str, phase: FaultPhase) -> str:
        return await self.engine.image_id(name, phase)

    def source(self, name: str, image_id: str) -> Source:  # noqa: ARG002 - the id is more exact
        return partial(_exported, self.engine, image_id)

    def collect(self) -> None:
        """Nothing is left."""

    async def close(self) -> None:
        """The engine is closed by its owner."""


@dataclass(frozen=True, slots=True)
class OfLayout:
    """The images of a directory in the OCI image layout."""

    layout: Layout
    machine: str

    async def ensure(self, name: str) -> None:
        """Images are at hand, or cannot be had."""

    async def find(self, name: str, phase: FaultPhase) -> str:
        try:
            found = await asyncio.to_thread(self.layout.find, name, self.machine)
        except LayerError as error:
            raise ContainerError(f"image {name}: {error}", phase=phase, retryable=False) from error
        if found is None:
            raise ContainerError(f"image {name}: not found", phase=phase, retryable=False)
        return found

    def source(self, name: str, image_id: str) -> Source:  # noqa: ARG002 - found by its name
        return lambda _directory: self.layout.open(name, self.machine)

    def collect(self) -> None:
        """Nothing is left."""

    async def close(self) -> None:
        """Nothing runs."""


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

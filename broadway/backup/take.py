"""Making a backup while services run."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from broadway.backup.manifest import BackupError, Manifest, Part, write_manifest
from broadway.backup.order import FIRST, following
from broadway.backup.parts import PartWriter
from broadway.mongo.raw_documents import JOBS, RUNS, RawDocuments

TRIES = 50  # of reading runs that get orders meanwhile


@dataclass
class _Files:
    """The open files of a backup. Runs and jobs stay open, since some are read again."""

    directory: Path
    writers: dict[str, PartWriter] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)

    async def write(self, place: str, batch: bytes) -> None:
        if place not in self.writers:
            self.writers[place] = await asyncio.to_thread(PartWriter, place, self.directory)
        await asyncio.to_thread(self.writers[place].write, batch)

    async def close(self, place: str) -> Part:
        await self.write(place, b"")
        self.parts[place] = await asyncio.to_thread(self.writers.pop(place).close)
        return self.parts[place]


async def take(site: RawDocuments, directory: Path, *, version: str) -> AsyncIterator[Part | Manifest]:
    """Write a backup to a new directory; yield each part when it is whole, and the manifest at the end.

    A backup that fails is removed.

    Raises:
        BackupError: The directory exists or cannot be written, or runs get orders all the time.
        StoreError: The store is unavailable.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        raise BackupError(f"{directory} exists; name a directory that does not") from None
    except OSError as error:
        raise BackupError(f"{directory}: {error.strerror}") from error
    files = _Files(directory)
    try:
        begun = datetime.now(UTC)
        made = await site.migrations()
        async for part in _read(site, files):
            yield part
        manifest = Manifest(
            version=version,
            begun_at=begun,
            ended_at=datetime.now(UTC),
            migrations=made,
            parts=list(files.parts.values()),
        )
        await asyncio.to_thread(write_manifest, directory, manifest)
    except BaseException as error:
        for writer in files.writers.values():
            writer.abandon()
        shutil.rmtree(directory, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            raise BackupError(f"{directory}: {error.strerror or error}") from error
        raise
    yield manifest


async def _read(site: RawDocuments, files: _Files) -> AsyncIterator[Part]:
    rounds = await site.rounds()
    for place in FIRST:
        async for batch in site.documents(place):
            await files.write(place, batch)
        if place == JOBS:
            await _read_ordered(site, files, rounds)
            yield await files.close(RUNS)
        if place != RUNS:
            yield await files.close(place)
    for place in following(await site.places()):
        async for batch in site.documents(place):
            await files.write(place, batch)
        yield await files.close(place)


async def _read_ordered(site: RawDocuments, files: _Files, known: dict[str, int]) -> None:
    """Read the runs again that have had an order since, and their jobs after them, until no run has.

    An order is stored with its run, which begins a new round, before it moves jobs. So the jobs of a run that was read
    before the order could be those of a round that the run does not have.
    """
    for _ in range(TRIES):
        present = await site.rounds()
        ordered_since = [run_id for run_id, number in present.items() if known.get(run_id) != number]
        if not ordered_since:
            return
        async for place, batch in site.runs_and_jobs(ordered_since):
            await files.write(place, batch)
        known = present
    raise BackupError("staff cancel or rerun runs all the time; make the backup a little later")

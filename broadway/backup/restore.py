"""Restoring a backup into an empty site, while no service runs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from broadway.backup import parts
from broadway.backup.manifest import BackupError, Manifest, Part, read_manifest
from broadway.backup.order import FIRST, OF_SERVICES, PARENTS, following, is_newer
from broadway.mongo.migrations import MIGRATIONS
from broadway.mongo.raw_documents import MIGRATIONS as RECORDS
from broadway.mongo.raw_documents import RawDocuments, UnreadableError, decoded

LEADER = "dispatcher"  # the service whose lease shows that services run


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored collection: ``left_out`` of its documents are newer than the rest of the backup."""

    place: str
    documents: int
    left_out: int


async def checked(directory: Path) -> Manifest:
    """Return the description of a backup whose files are all as they were written.

    Raises:
        BackupError: It is damaged, not whole, or of a later version.
    """
    manifest = await asyncio.to_thread(read_manifest, directory)
    if unknown := sorted({*manifest.migrations} - {each.name for each in MIGRATIONS}):
        made = f"version {manifest.version}, which has made migrations that this version does not know"
        raise BackupError(f"{directory}: made by {made} ({', '.join(unknown)}): restore it with that version")
    for part in manifest.parts:
        await asyncio.to_thread(parts.check, directory, part)
    return manifest


async def restore(site: RawDocuments, directory: Path, manifest: Manifest, *, by: str) -> AsyncIterator[Restored]:
    """Store the documents of a checked backup; yield each collection when it is whole.

    No service starts until the restore has ended. One that was interrupted can be repeated.

    Raises:
        BackupError: The site has data already, services run there, or the backup is damaged.
        StoreError: The store is unavailable, or refuses a document.
    """
    await _demand_empty(site)
    await site.begin_restore(by)
    await site.clear()
    by_place = {part.place: part for part in manifest.parts}
    for place in [*FIRST, *following(by_place)]:
        if place in by_place:
            yield await _restore(site, directory, by_place[place], manifest.begun_at)
    await site.end_restore()


async def _demand_empty(site: RawDocuments) -> None:
    if holder := await site.leader(LEADER):
        raise BackupError(f"a dispatcher runs on this store ({holder}): stop all services, then restore")
    if await site.has_begun_restore():
        return  # the store was empty then, and no service has used it since
    if filled := await site.filled(but=OF_SERVICES):
        shown = ", ".join(filled[:5]) + (", ..." if len(filled) > len(filled[:5]) else "")
        raise BackupError(
            f"the store has data already, in {shown}: restore into an empty one, with other database names"
        )


async def _restore(site: RawDocuments, directory: Path, part: Part, begun: datetime) -> Restored:
    stored = left_out = 0
    batches = parts.read(directory, part)
    while batch := await asyncio.to_thread(next, batches, None):
        try:
            kept = await _with_parents(site, part.place, batch, begun)
            if part.place == RECORDS:
                kept = site.without_restores(kept)
            if kept:
                await site.put(part.place, kept)
        except UnreadableError as error:
            raise BackupError(f"{part.place}: {error}; the backup is damaged, use another one") from error
        stored, left_out = stored + len(kept), left_out + len(batch) - len(kept)
    return Restored(part.place, stored, left_out)


async def _with_parents(site: RawDocuments, place: str, batch: Sequence[bytes], begun: datetime) -> list[bytes]:
    """Return the documents of a batch without those that are newer than the collection of their parent."""
    kept = list(batch)
    for parent in PARENTS.get(place, ()):
        documents = [decoded(each) for each in kept]
        of_each = [parent.of(each) for each in documents]
        known = await site.known(parent.place, {each for each in of_each if each is not None})
        kept = [
            raw
            for raw, document, identity in zip(kept, documents, of_each, strict=True)
            if identity is None or identity in known or not is_newer(document, parent, begun)
        ]
    return kept

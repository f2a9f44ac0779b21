"""The export of a student's data: a zip that is made while it is sent.

It has a file of JSON lines for each kind of record, the files of submissions and artifacts, and at the end
``manifest.json`` with the counts, which shows that the zip is whole.
"""

import asyncio
import json
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Protocol

from broadway.domain.student_data import Record, StoredFile, files_of
from broadway.ingest.reads.submissions import ContentQueries
from broadway.ingest.reads.zips import ZipSink
from broadway.ports import MissingContentError

IN_MEMORY = 4 * 1024 * 1024  # bytes of the records of a kind
PIECE = 256 * 1024  # bytes


class StudentRecords(Protocol):
    """All that is stored about students."""

    def records(self, course: str, student: str) -> AsyncIterator[Record]:
        """Yield all records about a student of a course."""


@dataclass(slots=True)
class _Collected:
    """The records of an export by kind, in temporary files, and the files to which they refer."""

    lines: dict[str, IO[bytes]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    files: dict[str, StoredFile] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Add a record, and its files."""
        if record.kind not in self.lines:
            self.lines[record.kind] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed with the others
        self.lines[record.kind].write(json.dumps(record.fields, ensure_ascii=False).encode() + b"\n")
        self.counts[record.kind] += 1
        self.files |= {file.path: file for file in files_of(record)}

    def close(self) -> None:
        """Remove the temporary files."""
        for each in self.lines.values():
            each.close()


@dataclass(frozen=True, slots=True)
class StudentExports:
    """Exports of the data of any course's students."""

    students: StudentRecords
    contents: ContentQueries

    async def zipped(self, course: str, student: str, *, by: str, now: datetime) -> AsyncIterator[bytes]:
        """Yield the bytes of an export."""
        about: dict[str, Any] = {"course": course, "student": student, "exported_at": now.isoformat(), "by": by}
        collected = _Collected()
        try:
            async for record in self.students.records(course, student):
                await asyncio.to_thread(collected.add, record)
            async for piece in self._archive(collected, about):
                yield piece
        finally:
            collected.close()

    async def _archive(self, collected: _Collected, about: dict[str, Any]) -> AsyncIterator[bytes]:
        sink, missing = ZipSink(), list[str]()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for kind, lines in sorted(collected.lines.items()):
                lines.seek(0)
                with archive.open(f"{kind}.jsonl", "w") as entry:
                    while piece := await asyncio.to_thread(lines.read, PIECE):
                        await asyncio.to_thread(entry.write, piece)
                        yield sink.taken()
            for path, file in sorted(collected.files.items()):
                try:
                    with archive.open(path, "w") as entry:
                        async for piece in self.contents.read(file.sha256):
                            await asyncio.to_thread(entry.write, piece)
                            yield sink.taken()
                except MissingContentError:
                    missing.append(path)
            counts = {**dict(sorted(collected.counts.items())), "files": len(collected.files)}
            manifest = {**about, "counts": counts, "missing_files": missing}
            archive.writestr("manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False))
        yield sink.taken()

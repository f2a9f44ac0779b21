"""The data that are stored about a student, as they are exported: records by kind, and contents of files. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One stored thing about a student: its kind, which names a file of the export, and its fields as plain JSON."""

    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a student: its path in the export, and the hash of its content."""

    path: str
    sha256: str


def files_of(record: Record) -> list[StoredFile]:
    """Return the files to which a record refers: those of a submission, and artifacts."""
    fields = record.fields
    if record.kind == "submissions":
        below = f"files/{fields['assignment']}/{fields['_id']}"
    elif record.kind == "artifacts":
        below = f"artifacts/{fields['job']}/{fields['execution']}"
    else:
        return []
    return [StoredFile(f"{below}/{each['path']}", each["sha256"]) for each in fields.get("files") or ()]


def mentions(text: str, student: str, quoted: str) -> bool:
    """Return whether a text of the audit log names a student: as a JSON text, or as a part of a path."""
    return quoted in text or f"/{student}/" in f"{text}/"

"""The data that are stored about a student, as they are exported: records by kind, and contents of files. Pure."""

import json
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
    return quoted in text or is_below(text, student)


def is_below(path: str, student: str) -> bool:
    """Return whether a path leads to a student or to what belongs to it."""
    return f"/{student}/" in f"{path}/"


def own_part(text: str, student: str) -> str | None:
    """Return a state in the audit log without what it has about others; None if it is not about the student.

    It is about many if someone has acted on a class, such as a roster; one that was cut is left out.
    """
    try:
        state = json.loads(text)
        if not _names(state, student):
            return None
        return json.dumps(_own(state, student), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


def _own(state: Any, student: str) -> Any:
    if isinstance(state, list):
        return [_own(each, student) for each in state if _names(each, student)]
    if not isinstance(state, dict) or student in (state.get("student"), state.get("name")):
        return state
    if student in state:
        return {student: state[student]}
    return {
        key: _own(value, student)
        for key, value in state.items()
        if not isinstance(value, dict | list) or _names(value, student)
    }


def _names(state: Any, student: str) -> bool:
    """Return whether a state names a student, as a text or as a key."""
    if isinstance(state, dict):
        return student in state or any(_names(each, student) for each in state.values())
    return any(_names(each, student) for each in state) if isinstance(state, list) else state == student

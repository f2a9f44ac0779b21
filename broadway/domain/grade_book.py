"""The grade book of an assignment: immutable versions of the students' grades, of which one is published. Pure.

The entries of a version are kept in chunks with the hash of their content as id, so that a version that changes a few
students shares the other chunks with the one before it.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import TypeAdapter

from broadway.domain.counting import Adjustment, Decision
from broadway.domain.grade import Grade
from broadway.domain.parts import in_parts

CHUNK = 100  # entries; a student who reads one grade loads one chunk
MAX_NOTE = 4000  # characters of a reason and of a note
MAX_DIGESTS = 100  # of configs and of images in a version


class MadeFrom(StrEnum):
    """The source of a version."""

    DRAFT = "draft"
    REGRADE = "regrade"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class BookEntry:
    """A student's grade in the book, with its lines, and the execution whose result it has.

    ``job``, ``generation`` and ``execution`` are None if no submission counts, or if the one that counts has no result.
    ``adjustments`` are the ids of those that were in force, a decision included. ``regraded`` are the executions of
    regrades by which the student's submissions were graded, those that do not count included: they hold from then on.
    """

    grade: Grade
    job: str | None = None
    generation: int | None = None
    execution: str | None = None
    adjustments: tuple[str, ...] = ()
    regraded: tuple[str, ...] = ()

    @property
    def executions(self) -> frozenset[str]:
        """All executions whose results the entry is made of, as far as it names them."""
        return frozenset(self.regraded) | ({self.execution} if self.execution else frozenset())

    @property
    def student(self) -> str:
        """The student."""
        return self.grade.student


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A chunk of a version: the SHA-256 of its content, its first student, and the number of its entries."""

    digest: str
    first: str
    count: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Entries in the order of students, with their content as it is stored."""

    ref: ChunkRef
    content: bytes


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an assignment's grade book; it never changes.

    ``based_on`` is the published version that it was made to follow, 0 for the first one. ``source`` names the regrade
    or, for an undo, the version whose entries it has. ``configs`` and ``images`` are the digests of the assignment
    configs and images by which the entries' results were made. ``reason`` is for staff, ``note`` for students.
    ``request`` is the digest of the request that made it, so that a repetition is recognized.
    """

    course: str
    assignment: str
    number: int
    based_on: int
    made_from: MadeFrom
    chunks: tuple[ChunkRef, ...]
    settings_version: int
    at: datetime
    by: str = ""
    reason: str = ""
    note: str = ""
    source: str = ""
    configs: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    request: str | None = None

    @property
    def students(self) -> int:
        """The number of its entries."""
        return sum(chunk.count for chunk in self.chunks)

    def chunk_of(self, student: str) -> ChunkRef | None:
        """Return the chunk that has a student's entry if the version has one, or None."""
        index = bisect_right([chunk.first for chunk in self.chunks], student) - 1
        return self.chunks[index] if index >= 0 else None


@dataclass(frozen=True, slots=True)
class Published:
    """The pointer to the version that students see. ``before`` is the version that it replaced; 0 for the first one.

    ``students`` is the number of its entries: 0 after an undo of the first publication. ``announce_at`` is the time
    from which on ``grades.published`` is to be sent; None once it is sent. ``announced`` is the last version of which
    it was sent, 0 if there is none, and None if that was not noted.
    """

    course: str
    assignment: str
    version: int
    at: datetime
    by: str = ""
    before: int = 0
    students: int = 0
    announce_at: datetime | None = None
    announced: int | None = None

    @property
    def is_visible(self) -> bool:
        """True if students see grades."""
        return self.students > 0


@dataclass(frozen=True, slots=True)
class Draft:
    """The grades that the policy gives at a moment, in the order of students. It is never stored.

    ``published`` is the version on which a publication of this draft is based; 0 before the first one. The other fields
    are those of ``Version``.
    """

    entries: Sequence[BookEntry]
    at: datetime
    published: int = 0
    settings_version: int = 0
    configs: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


class AdjustmentKind(StrEnum):
    """The kind of a change that staff make to a student's grade."""

    POINTS = "points"  # added to the tests' points, or taken off
    FINAL = "final"  # the grade, whatever the submissions are worth
    EXCUSED = "excused"


@dataclass(frozen=True, slots=True)
class StoredAdjustment:
    """A change of staff to a student's grade, with its reason, which the student reads.

    It is never changed or deleted: ``withdrawn_at``, ``withdrawn_by`` and ``withdrawn_reason`` come from the document
    that withdraws it.
    """

    id: str
    student: str
    kind: AdjustmentKind
    points: Decimal | None
    reason: str
    at: datetime
    by: str = ""
    withdrawn_at: datetime | None = None
    withdrawn_by: str = ""
    withdrawn_reason: str = ""

    @property
    def is_in_force(self) -> bool:
        """True unless it is withdrawn."""
        return self.withdrawn_at is None


@dataclass(frozen=True, slots=True)
class Applied:
    """The adjustments in force for one student: points in the order of their lines, the decision, and the ids of all.

    Of several decisions the latest one holds.
    """

    points: tuple[Adjustment, ...] = ()
    decision: Decision | None = None
    ids: tuple[str, ...] = ()


def applied(adjustments: Iterable[StoredAdjustment]) -> dict[str, Applied]:
    """Return the adjustments in force by student, given all of an assignment in any order."""
    found: dict[str, list[StoredAdjustment]] = {}
    for each in sorted(adjustments, key=lambda each: (each.at, each.id)):
        if each.is_in_force:
            found.setdefault(each.student, []).append(each)
    return {student: _applied(own) for student, own in found.items()}


def _applied(own: Sequence[StoredAdjustment]) -> Applied:
    points = [each for each in own if each.kind is AdjustmentKind.POINTS]
    decision = next((each for each in reversed(own) if each.kind is not AdjustmentKind.POINTS), None)
    return Applied(
        tuple(Adjustment(each.points or Decimal(0), each.reason) for each in points),
        Decision(decision.points, decision.reason) if decision else None,
        tuple(each.id for each in (*points, *([decision] if decision else ()))),
    )


_ENTRIES = TypeAdapter(tuple[BookEntry, ...])


def chunks_of(entries: Iterable[BookEntry]) -> list[Chunk]:
    """Return entries in chunks, in the order of students. Equal entries have equal content."""
    ordered = sorted(entries, key=lambda entry: entry.student)
    return [_chunk(tuple(some)) for some in in_parts(ordered, CHUNK)]


def entries_of(content: bytes) -> tuple[BookEntry, ...]:
    """Return the entries in a chunk's content."""
    return _ENTRIES.validate_json(content)


def changed_students(before: Mapping[str, BookEntry], after: Mapping[str, BookEntry]) -> list[str]:
    """Return the students whose grade, status or result is not the same in two versions, in order."""
    return sorted(
        student for student in before.keys() | after.keys() if _told(before.get(student)) != _told(after.get(student))
    )


def _told(entry: BookEntry | None) -> object:
    if entry is None:
        return None
    grade = entry.grade
    return grade.status, grade.points, grade.max, grade.submission, entry.execution


def _chunk(entries: Sequence[BookEntry]) -> Chunk:
    content = _ENTRIES.dump_json(tuple(entries), exclude_defaults=True)
    digest = hashlib.sha256(content).hexdigest()
    return Chunk(ChunkRef(digest, entries[0].student, len(entries)), content)

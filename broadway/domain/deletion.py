"""The deletion of a student's data: its order, its receipt, and the texts without the name. Pure.

The receipt has no name: a pseudonym stands for the student, which only the deployment can compute from the name.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

ERASED = "the student's data were deleted"  # the reason of a job that stays in a run over a roster
PSEUDONYM = "deleted-"
_WORD = 3  # characters: shorter names are replaced only as whole values and parts of paths
_KEPT = 16  # hexadecimal digits of a pseudonym


class SharedNameError(ValueError):
    """A group with other members has the student's name."""


class UnknownStudentError(LookupError):
    """Nothing is stored about the student."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """One deletion. ``names`` are the student and the groups without other members; none once it has ended.

    ``repositories`` are those of the student's entries in rosters. ``counts`` has numbers by kind. ``digest`` is that
    of the receipt.
    """

    course: str
    pseudonym: str
    number: int
    by: str
    reason: str
    ordered_at: datetime
    names: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    ended_at: datetime | None = None
    digest: str = ""

    @property
    def id(self) -> str:
        """The id, by which it is stored."""
        return f"{self.course}/{self.pseudonym}/{self.number:06}"

    @property
    def student(self) -> str:
        """The student; empty once the deletion has ended."""
        return self.names[0] if self.names else ""

    def digest_at(self, ended_at: datetime) -> str:
        """Return the digest of the receipt, had the deletion ended at a moment."""
        about = [self.id, self.by, self.reason, _time(self.ordered_at), _time(ended_at), sorted(self.counts.items())]
        return hashlib.sha256(json.dumps(about, ensure_ascii=False).encode()).hexdigest()

    def replaced(self, text: str) -> str:
        """Return a text without the student's names."""
        return replaced(text, self.names, self.pseudonym)


@dataclass(frozen=True, slots=True)
class OpenWork:
    """Runs of a student alone, and the student's jobs in other runs, that have not ended."""

    runs: Sequence[str] = ()
    jobs: Sequence[str] = ()


def pseudonym_of(secret: bytes, course: str, student: str) -> str:
    """Return the text that stands for a deleted student of a course."""
    key = hmac.new(secret, f"{course}\0{student}".encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"{PSEUDONYM}{key.hexdigest()[:_KEPT]}"


def replaced(text: str, names: Iterable[str], pseudonym: str) -> str:
    """Return a text without names: as a whole, as JSON texts, as parts of paths, and as words if they are long."""
    for name in sorted(names, key=len, reverse=True):
        quoted = re.escape(json.dumps(name, ensure_ascii=False)[1:-1])
        forms = [rf"\A{re.escape(name)}\Z", rf'(?<=")({quoted})(?=")', rf"(?<=/){re.escape(name)}(?=/|\Z)"]
        if len(name) >= _WORD and not name.isdigit():
            forms.append(rf"(?<!\w){re.escape(name)}(?!\w)")
        text = re.sub("|".join(forms), pseudonym, text)
    return text


def most(*counts: Mapping[str, int]) -> dict[str, int]:
    """Return the highest number of each kind: what was counted before a part of it was removed."""
    kinds = sorted({kind for each in counts for kind in each})
    found = {kind: max(each.get(kind, 0) for each in counts) for kind in kinds}
    return {kind: number for kind, number in found.items() if number}


def positions(students: Sequence[str | None], names: Iterable[str]) -> list[int]:
    """Return the positions of some students in a run's list."""
    known = frozenset(names)
    return [number for number, student in enumerate(students) if student in known]


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")

"""The rows of a file and the students with grades, matched by identifiers. Pure.

Keys are tried in their order; the first one that a student has decides, and a later one that contradicts it refuses the
row. Identifiers are compared as they are, but for blanks around them, and for the case of letters in names of users and
addresses. A name only decides where no identifier does. Two rows of one student match nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from unicodedata import normalize

from broadway.domain.sheets.entries import ANY_CASE, NAME, Entry, LeftOut

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class RowKeys:
    """A row of the file: its number, the texts by which people know it, and its values, by the identifier's name."""

    number: int
    label: str
    values: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class UnmatchedRow:
    """A row of the file without a grade, with the reason."""

    row: int
    label: str
    reason: str


@dataclass(slots=True)
class Matches:
    """The grade of each matched row, by the row's number, and all that has no counterpart."""

    grades: Mapping[int, Entry]
    rows: list[UnmatchedRow] = field(default_factory=list)
    students: list[LeftOut] = field(default_factory=list)


def match(rows: Sequence[RowKeys], grades: Sequence[Entry]) -> Matches:
    """Match rows with grades."""
    index = _Index(grades, {name for row in rows for name, _ in row.values})
    found: dict[int, Entry] = {}
    matches = Matches(found)
    rows_of: defaultdict[str, list[RowKeys]] = defaultdict(list)
    for row in rows:
        grade, problem = _grade_of(row, index)
        if grade:
            found[row.number] = grade
            rows_of[grade.student].append(row)
        else:
            matches.rows.append(UnmatchedRow(row.number, row.label, problem))
    for same in rows_of.values():
        if len(same) > 1:
            numbers = ", ".join(str(row.number) for row in same[:_MOST_NAMED])
            for row in same:
                del found[row.number]
                matches.rows.append(UnmatchedRow(row.number, row.label, f"the rows {numbers} are of one student"))
    matches.rows.sort(key=lambda each: each.row)
    _name_left_out(matches, grades, rows_of)
    return matches


class _Index:
    """Grades by identifiers. Look-ups cost the same however many students share an identifier."""

    def __init__(self, grades: Iterable[Entry], names: Iterable[str]) -> None:
        self._exact: defaultdict[tuple[str, str], dict[str, Entry]] = defaultdict(dict)
        self._any_case: defaultdict[tuple[str, str], dict[str, Entry]] = defaultdict(dict)
        for name, grade in product(names, grades):
            text = grade.full_name() if name == NAME else grade.identifier(name)
            if text.strip():
                self._any_case[name, _plain(name, text)][grade.student] = grade
                if name in ANY_CASE:
                    self._exact[name, text.strip()][grade.student] = grade

    def like(self, name: str, value: str) -> Mapping[str, Entry]:
        """Return the grades of students that a value may mean."""
        return self._any_case.get((name, _plain(name, value)), {})

    def best(self, name: str, value: str) -> Mapping[str, Entry]:
        """Return the one grade with exactly this identifier, or else all that the value may mean."""
        same = self._exact.get((name, value.strip()), {})
        return same if len(same) == 1 else self.like(name, value)


def _plain(name: str, text: str) -> str:
    text = text.strip()
    if name == NAME:
        last, comma, first = normalize("NFC", text).partition(",")
        return " ".join((f"{first} {last}" if comma else last).casefold().split())
    return text.casefold() if name in ANY_CASE else text


def _grade_of(row: RowKeys, index: _Index) -> tuple[Entry | None, str]:
    """Return the grade of a row, or the reason for its absence."""
    found: Entry | None = None
    for name, value in row.values:
        if found and name == NAME:
            break
        candidates = index.like(name, value) if found else index.best(name, value)
        if found is None and len(candidates) == 1:
            found = next(iter(candidates.values()))
        elif candidates and (found is None or found.student not in candidates):
            students = ", ".join([*([found.student] if found else []), *islice(candidates, _MOST_NAMED)])
            return None, f"its identifiers are of several students, at the {name}: {students}"
    return found, "no grade has one of its identifiers"


def _name_left_out(matches: Matches, grades: Iterable[Entry], rows_of: Mapping[str, Sequence[RowKeys]]) -> None:
    matched = {grade.student for grade in matches.grades.values()}
    for grade in grades:
        if grade.student not in matched:
            several = rows_of.get(grade.student, ())
            numbers = ", ".join(str(row.number) for row in several[:_MOST_NAMED])
            reason = f"the rows {numbers} are of this student" if several else "no row has one of its identifiers"
            matches.students.append(LeftOut(grade.student, reason))

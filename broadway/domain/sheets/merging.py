"""Grades merged into the file that a learning management system has exported. Pure.

Only cells of one column change; all other bytes stay as they are. A cell with a score of the same value stays as it is,
too, so a second merge changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from broadway.domain.report import MAX_NAME
from broadway.domain.sheets.cell_rules import CellRules
from broadway.domain.sheets.cells import Replacement, Row, folded, opened, replaced, rows, separator_of
from broadway.domain.sheets.entries import NAME, SIS_ID, STUDENT, Entry, LeftOut, Missing, SheetError, distinct, excess
from broadway.domain.sheets.matching import RowKeys, UnmatchedRow, match
from broadway.domain.sheets.numbers import points_in, written
from broadway.domain.sheets.shapes import (
    KNOWN,
    POINTS_POSSIBLE,
    READ_ONLY,
    TEST_STUDENT,
    Key,
    Lms,
    Shape,
    is_computed,
    maximum_in,
    place_of,
    shape_of,
)

_MOST_NAMED = 20
_WITH_COMMA = (Lms.MOODLE, Lms.PLAIN, Lms.OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeChoice:
    """The choices of staff for a merge.

    ``keys`` replaces the keys of the file's shape. ``by_name`` also matches by full name, after all keys.
    """

    column: str
    keys: Sequence[Key] = ()
    by_name: bool = False
    missing: Missing = Missing.LEAVE
    comma: bool = False
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Change:
    """A changed cell."""

    row: int
    student: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged file, and the facts to check before it goes back.

    ``same`` counts matched cells that stay as they were. ``held`` are matched students without a grade to write.
    """

    data: bytes
    charset: str
    lms: Lms
    column: str
    changes: Sequence[Change]
    same: int
    held: Sequence[LeftOut]
    unmatched_students: Sequence[LeftOut]
    unmatched_rows: Sequence[UnmatchedRow]
    notes: Sequence[str]

    def is_complete(self) -> bool:
        """Return whether every student and every row has its counterpart, and no grade was held back."""
        return not (self.held or self.unmatched_students or self.unmatched_rows)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The columns of a file that a merge uses, and its rows of students."""

    shape: Shape
    header: Row
    target: int
    keys: Sequence[tuple[int, str]]
    names: Sequence[int]
    by_name: bool


@dataclass(frozen=True, slots=True)
class _Student:
    """A row of a student: its chosen cell, the number of its cells, and of those up to the last one with a text."""

    keys: RowKeys
    span: tuple[int, int]
    before: str
    cells: int
    used: int


@dataclass(slots=True)
class _Facts:
    """The contents of a file; ``width`` is the number of cells that a row has."""

    width: int
    maximum: str
    students: dict[int, _Student] = field(default_factory=dict)


def merge(data: bytes, grades: Sequence[Entry], choice: MergeChoice) -> Merged:
    """Return a file with grades in the cells of one column.

    Raises:
        SheetError: The file is no sheet, the column is not there, or no column has identifiers of students.
    """
    distinct(grades)
    source = opened(data, encoding=choice.encoding)
    known = KNOWN | {folded(name) for name in (choice.column, *(key.column for key in choice.keys))}
    separator = separator_of(source.text, known)
    every = rows(source.text, separator)
    plan = _plan(next(every), choice, grades)
    facts = _read(every, plan)
    matches = match([student.keys for student in facts.students.values()], grades)
    rules = CellRules(plan.shape, missing=choice.missing, comma=choice.comma)
    replacements, changes, held = [], [], []
    for number, grade in sorted(matches.grades.items()):
        row = facts.students[number]
        _check_width(row, plan, facts)
        before, after = row.before, rules.after(grade, row.before)
        if isinstance(after, LeftOut):
            held.append(after)
        elif after != before:
            changes.append(Change(number, grade.student, before, after))
            replacements.append(Replacement(row.span, after))
    same = len(matches.grades) - len(changes) - len(held)
    return Merged(
        data=source.with_text(replaced(source.text, replacements, separator)),
        charset=source.charset,
        lms=plan.shape.lms,
        column=plan.header.cell(plan.target),
        changes=changes,
        same=same,
        held=held,
        unmatched_students=matches.students,
        unmatched_rows=matches.rows,
        notes=[*_notes(plan, facts, grades, is_any=bool(matches.grades)), *rules.notes()],
    )


def _plan(header: Row, choice: MergeChoice, grades: Sequence[Entry]) -> _Plan:
    cells = header.cells()
    shape, names = shape_of(cells), [folded(cell) for cell in cells]
    if choice.comma and shape.lms not in _WITH_COMMA:
        raise SheetError(f"{shape.lms}: expected a decimal point; only Moodle and plain files take a decimal comma")
    for place, cell in enumerate(cells):
        if len(cell) > MAX_NAME:
            raise SheetError(f"row 1, column {place + 1}: expected a name of at most {MAX_NAME} characters")
    target = place_of(choice.column, cells)
    places = next(([_only(name, names) for name in each] for each in shape.names if set(each) <= set(names)), [])
    keys = [(place_of(key.column, cells), key.identifier) for key in choice.keys] or [
        (_only(key.column, names), key.identifier) for key in shape.keys if key.column in names
    ]
    if not keys and not (choice.by_name and places):
        raise SheetError("row 1: no column is known to have identifiers of students; name a column and its identifier")
    if target in places or target in [place for place, _ in keys] or is_computed(cells[target]):
        raise SheetError(f"row 1, column {target + 1}: {cells[target][:100]} is no column for grades; name another")
    _check_identifiers(choice.keys, grades)
    return _Plan(shape, header, target, keys, places, choice.by_name)


def _only(column: str, names: Sequence[str]) -> int:
    """Return the place of a column by which rows are matched.

    Raises:
        SheetError: Two columns have its name.
    """
    places = [place for place, name in enumerate(names) if name == column]
    if len(places) > 1:
        both = ", ".join(f"#{place + 1}" for place in places[:_MOST_NAMED])
        raise SheetError(f"row 1: the columns {both} have the name {column}; name the keys, such as #1=username")
    return places[0]


def _check_identifiers(keys: Sequence[Key], grades: Sequence[Entry]) -> None:
    known = {STUDENT, NAME, *(name for grade in grades for name in grade.identifiers)}
    for key in keys:
        if grades and not any(grade.identifier(key.identifier) for grade in grades) and key.identifier != NAME:
            some = ", ".join(sorted(known)[:20])
            raise SheetError(f"column {key.column}: no student has the identifier {key.identifier}; known are {some}")


def _read(every: Iterator[Row], plan: _Plan) -> _Facts:
    """Return the rows of students; Canvas has other rows before them and a student of its own."""
    facts = _Facts(len(plan.header), maximum_in(plan.header.cell(plan.target)))
    for row in every:
        if row.is_blank():
            continue
        if plan.shape.lms is Lms.CANVAS and not _is_student_of_canvas(row, plan):
            _learn(row, plan, facts)
        else:
            facts.students[row.number] = _student(row, plan)
    return facts


def _is_student_of_canvas(row: Row, plan: _Plan) -> bool:
    """Return whether a row is of a student of the course. No name makes a row with identifiers another one."""
    name = [row.cell(place).strip() for place in plan.names]
    identifiers = {identifier for place, identifier in plan.keys if row.cell(place).strip()}
    if name in TEST_STUDENT and SIS_ID not in identifiers:
        return False
    return bool(identifiers) or (any(name) and POINTS_POSSIBLE not in row.cell(0))


def _learn(row: Row, plan: _Plan, facts: _Facts) -> None:
    if POINTS_POSSIBLE not in row.cell(0) or facts.students:  # the row is above those of students
        return
    facts.maximum = row.cell(plan.target).strip()
    facts.width = len(row)  # some versions of Canvas write more cells than names of columns
    if READ_ONLY in facts.maximum:
        raise SheetError(
            f"row {row.number}, column {plan.target + 1}: Canvas does not import the column "
            f"{plan.header.cell(plan.target)[:100]}, which is read only; name another"
        )


def _row_keys(row: Row, plan: _Plan) -> RowKeys:
    def value(place: int) -> str:
        return row.cell(place).strip().removeprefix(plan.shape.guard)

    values = [(identifier, text) for place, identifier in plan.keys if (text := value(place))]
    name = " ".join(filter(None, (row.cell(place).strip() for place in plan.names)))
    if plan.by_name and name:
        values.append((NAME, name))
    label = " ".join(filter(None, [name, *(text for identifier, text in values if identifier != NAME)]))
    return RowKeys(row.number, label[:200], values)


def _student(row: Row, plan: _Plan) -> _Student:
    used = next((place + 1 for place in reversed(range(len(row))) if row.cell(place).strip()), 0)
    span = row.spans[plan.target] if plan.target < len(row) else (0, 0)
    return _Student(_row_keys(row, plan), span, row.cell(plan.target), len(row), used)


def _check_width(row: _Student, plan: _Plan, facts: _Facts) -> None:
    """Return if a row's cells are in the columns of their names; an unquoted separator in a text shifts them."""
    if row.cells < len(plan.header) or row.used > facts.width:
        raise SheetError(
            f"row {row.keys.number}, column {min(row.cells, facts.width) + 1}: expected {facts.width} cells as in the "
            f"first row, not {row.cells}; a text that has a separator needs quotes"
        )


def _notes(plan: _Plan, facts: _Facts, grades: Sequence[Entry], *, is_any: bool) -> Iterator[str]:
    if facts.students and grades and not is_any:
        pairs = ", ".join(f"{plan.header.cell(place)[:100]} with {name}" for place, name in plan.keys)
        yield f"no row matches; compared were {pairs or 'names'}: name another column and its identifier"
    maxima = {grade.maximum for grade in grades if grade.maximum is not None}
    possible = points_in(facts.maximum)
    if possible is not None and maxima and maxima != {possible}:
        ours = ", ".join(written(each) for each in sorted(maxima)[:10])
        yield f"the file says that {written(possible)} points are possible, the grades say {ours}; no score is scaled"
    yield from excess(grades, possible)


def counts(merged: Merged) -> Mapping[str, int]:
    """Return the figures of a merge, in the order in which to show them."""
    return {
        "changed": len(merged.changes),
        "same": merged.same,
        "held": len(merged.held),
        "students without a row": len(merged.unmatched_students),
        "rows without a grade": len(merged.unmatched_rows),
    }

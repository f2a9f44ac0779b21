"""New files for learning management systems, in the columns that their importers expect. Pure.

Identifiers stay as they are: an importer would not find a student by a changed one. A student with an identifier that a
spreadsheet would run is left out, and named. Names and texts from students are made harmless.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from decimal import Decimal

from broadway.domain.formulas import identifier_problem, is_formula, on_a_line
from broadway.domain.sheets.entries import (
    ANY_CASE,
    CANVAS_ID,
    EMAIL,
    FIRST_NAME,
    LAST_NAME,
    SECTION,
    SIS_ID,
    USERNAME,
    Entry,
    EntryStatus,
    LeftOut,
    Missing,
    SheetError,
    Written,
    distinct,
    excess,
    held,
)
from broadway.domain.sheets.numbers import written
from broadway.domain.sheets.shapes import CANVAS_EXCUSED, CANVAS_PLACES, GUARD, POINTS_POSSIBLE
from broadway.domain.sheets.writing import csv_bytes, score_of

_MOST_NAMED = 10
_MOODLE_MOST = 100  # points, unless the site allows more
_GRADESCOPE = (
    "First Name",
    "Last Name",
    "SID",
    "Email",
    "Sections",
    "Total Score",
    "Max Points",
    "Status",
    "Submission ID",
    "Submission Time",
    "Lateness (H:M:S)",
    "View Count",
    "Submission Count",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """The assignment in the system: its title and the points that are possible; ``canvas_id`` is its id in Canvas.

    Canvas makes a new assignment if there is no id, and no assignment has exactly this title.
    """

    title: str
    maximum: Decimal | None = None
    canvas_id: int | None = None

    def __post_init__(self) -> None:
        if not self.title.strip() or is_formula(self.title) or not self.title.isprintable():
            raise SheetError(
                f"title {self.title[:100]!r}: expected a text on one line that does not begin like a formula"
            )


def canvas(grades: Sequence[Entry], item: Item, *, missing: Missing = Missing.LEAVE) -> Written:
    """Return a file for Canvas. Scores have at most two decimals there; Canvas compares no more."""
    title = item.title if item.canvas_id is None else f"{item.title} ({item.canvas_id})"
    possible = "" if item.maximum is None else written(item.maximum, places=CANVAS_PLACES)
    head = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", title],
        [f"    {POINTS_POSSIBLE}", "", "", "", "", possible],
    ]

    def row(grade: Entry) -> list[str]:
        ids = [_identifier(grade, name) for name in (CANVAS_ID, SIS_ID, USERNAME)]
        excused = CANVAS_EXCUSED if grade.status is EntryStatus.EXCUSED else ""
        cell = _cell(grade, missing, places=CANVAS_PLACES) or excused
        return [_name(grade) or on_a_line(grade.student), *ids, on_a_line(grade.identifier(SECTION)), cell]

    rounded = sum(each.score is not None and each.score != round(each.score, CANVAS_PLACES) for each in grades)
    notes = [f"scores rounded to {CANVAS_PLACES} decimals: {rounded}"] if rounded else []
    names = (CANVAS_ID, SIS_ID, USERNAME)
    return _file(head, grades, row, names, [*notes, *excess(grades, item.maximum)])


def moodle(grades: Sequence[Entry], item: Item, *, missing: Missing = Missing.LEAVE, comma: bool = False) -> Written:
    """Return a file for Moodle. Its columns are mapped by hand there; it stops at the first unknown student."""

    def row(grade: Entry) -> list[str]:
        ids = [_identifier(grade, name) for name in (EMAIL, SIS_ID)]
        if not any(ids):
            raise SheetError(f"no {EMAIL} and no {SIS_ID} in the roster")
        cell = _cell(grade, missing, comma=comma)
        return [*ids, cell, on_a_line(grade.feedback) if cell else ""]

    head = ["Email address", "ID number", item.title, f"Feedback: {item.title}"]
    return _file([head], grades, row, (EMAIL, SIS_ID), _notes_on_moodle(grades), separator=";" if comma else ",")


def _notes_on_moodle(grades: Sequence[Entry]) -> list[str]:
    notes = []
    if any(grade.score is not None and grade.score > _MOODLE_MOST for grade in grades):
        notes.append(f"Moodle refuses the file if a score is above {_MOODLE_MOST}, unless the site allows it")
    named = [ids for grade in grades if any(ids := (grade.identifier(EMAIL), grade.identifier(SIS_ID)))]
    lacking = [sum(not ids[place] for ids in named) for place in (0, 1)]
    if any(lacking):
        counts = f"students without {EMAIL}: {lacking[0]}, without {SIS_ID}: {lacking[1]}"
        notes.append(f"{counts}; Moodle stops at the first student without the one by which it compares")
    return notes


def brightspace(grades: Sequence[Entry], item: Item, *, missing: Missing = Missing.LEAVE) -> Written:
    """Return a file for Brightspace, which makes the item if it does not exist."""
    if set("<>") & set(item.title):
        raise SheetError(f"title {item.title[:100]!r}: Brightspace expects a title without < and >")
    if item.maximum is None:
        raise SheetError("Brightspace expects the points that are possible: give the assignment's settings `points`")

    def row(grade: Entry) -> list[str]:
        ids = [_identifier(grade, name) for name in (SIS_ID, USERNAME)]
        return [*(f"{GUARD}{each}" if each else "" for each in ids), _cell(grade, missing), GUARD]

    column = f"{item.title} Points Grade <Numeric MaxPoints:{written(item.maximum)}>"
    head = ["OrgDefinedId", "Username", column, "End-of-Line Indicator"]
    return _file([head], grades, row, (SIS_ID, USERNAME), excess(grades, item.maximum))


def gradescope(grades: Sequence[Entry], *, missing: Missing = Missing.LEAVE) -> Written:
    """Return a file with the columns of Gradescope's own, for programs that read those."""
    return _file([_GRADESCOPE], grades, lambda grade: _gradescope_row(grade, missing), (SIS_ID, EMAIL))


def _gradescope_row(grade: Entry, missing: Missing) -> list[str]:
    score = score_of(grade, missing)
    status = "Graded" if score is not None else "Missing" if grade.status is EntryStatus.MISSING else "Ungraded"
    names = [on_a_line(grade.identifier(name)) for name in (FIRST_NAME, LAST_NAME)]
    time = grade.submitted_at
    return [
        *(names if any(names) else ["", _name(grade)]),
        _identifier(grade, SIS_ID) or _identifier(grade, USERNAME),
        _identifier(grade, EMAIL),
        on_a_line(grade.identifier(SECTION)),
        _cell(grade, missing),
        "" if grade.maximum is None else written(grade.maximum),
        status,
        on_a_line(grade.job),
        f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} +0000" if time else "",
        _clock(grade.late or timedelta()) if time else "",
        "",
        "" if grade.attempt is None else str(grade.attempt),
    ]


def _file(
    head: Sequence[Sequence[str]],
    grades: Sequence[Entry],
    row_of: Callable[[Entry], Sequence[str]],
    names: Sequence[str],
    notes: Sequence[str] = (),
    *,
    separator: str = ",",
) -> Written:
    """Return a file with a row of each student; ``row_of`` raises SheetError for a student that it cannot name.

    Students who share one of the identifiers ``names`` are left out: an importer would give the one's grade to another.
    """
    rows, left_out = list(head), []
    shared = _shared(grades, names)
    for grade in distinct(grades):
        try:
            if grade.student in shared:
                raise SheetError(shared[grade.student])  # noqa: TRY301 - the same remedy as for other identifiers
            rows.append(row_of(grade))
        except SheetError as error:
            left_out.append(LeftOut(grade.student, str(error)))
    return Written(csv_bytes(rows, separator=separator), left_out, held(grades), notes)


def _shared(grades: Sequence[Entry], names: Sequence[str]) -> Mapping[str, str]:
    """Return the students who have an identifier of another one, with the reason."""
    reasons: dict[str, str] = {}
    for name in names:
        students: defaultdict[str, list[str]] = defaultdict(list)
        for grade in grades:
            if text := grade.identifier(name).strip():
                students[text.casefold() if name in ANY_CASE else text].append(grade.student)
        for same in students.values():
            if len(same) > 1:
                reason = f"the {name} is that of several students: {', '.join(same[:_MOST_NAMED])}"
                reasons |= dict.fromkeys(same, reason)
    return reasons


def _cell(grade: Entry, missing: Missing, *, places: int | None = None, comma: bool = False) -> str:
    score = score_of(grade, missing)
    return "" if score is None else written(score, places=places, comma=comma)


def _clock(time: timedelta) -> str:
    minutes, seconds = divmod(max(0, int(time.total_seconds())), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _name(grade: Entry) -> str:
    return on_a_line(grade.full_name())


def _identifier(grade: Entry, name: str) -> str:
    text = grade.identifier(name)
    if problem := identifier_problem(text, name=name):
        raise SheetError(problem)
    return text

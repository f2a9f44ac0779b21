"""The files that learning management systems export: their columns, and the rules for a cell. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from broadway.domain.sheets.cells import folded
from broadway.domain.sheets.entries import CANVAS_ID, EMAIL, SIS_ID, STUDENT, USERNAME, SheetError


class Lms(StrEnum):
    """The origin of a file."""

    CANVAS = "canvas"
    BLACKBOARD = "blackboard"
    BRIGHTSPACE = "brightspace"
    MOODLE = "moodle"
    GRADESCOPE = "gradescope"
    PLAIN = "plain"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Key:
    """A column of a file, and the identifier of students that it has."""

    column: str
    identifier: str


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of a system's file.

    ``keys`` are in order of preference. ``names`` are groups of columns; the first one that exists makes a full name.
    """

    lms: Lms
    keys: Sequence[Key]
    names: Sequence[Sequence[str]] = ()
    places: int | None = None
    excused: str | None = None
    unassigned: str | None = None
    guard: str = ""


_FIRST_AND_LAST = (("first name", "last name"), ("first name", "surname"))
CANVAS_PLACES, CANVAS_EXCUSED = 2, "EX"
POINTS_POSSIBLE = "Points Possible"
READ_ONLY = "read only"
TEST_STUDENT = (["Student, Test"], ["Test", "Student"])  # of Canvas itself, for staff to try their course
GUARD = "#"  # keeps spreadsheets from dropping the zeros before a number

SHAPES: Sequence[Shape] = (
    Shape(
        Lms.CANVAS,
        (Key("id", CANVAS_ID), Key("sis user id", SIS_ID), Key("sis login id", USERNAME)),
        (("student",), ("firstname", "lastname")),
        places=CANVAS_PLACES,
        excused=CANVAS_EXCUSED,
        unassigned="N/A",
    ),
    Shape(
        Lms.BRIGHTSPACE,
        (Key("orgdefinedid", SIS_ID), Key("username", USERNAME), Key("email", EMAIL)),
        _FIRST_AND_LAST,
        guard=GUARD,
    ),
    Shape(Lms.BLACKBOARD, (Key("student id", SIS_ID), Key("username", USERNAME)), _FIRST_AND_LAST),
    Shape(
        Lms.MOODLE,
        (Key("id number", SIS_ID), Key("email address", EMAIL), Key("username", USERNAME)),
        (*_FIRST_AND_LAST, ("full name",)),
    ),
    Shape(Lms.GRADESCOPE, (Key("sid", SIS_ID), Key("email", EMAIL)), (*_FIRST_AND_LAST, ("name",))),
    Shape(Lms.PLAIN, (Key("student", STUDENT),)),
)
_OTHER = Shape(Lms.OTHER, ())
KNOWN = frozenset(
    name
    for shape in SHAPES
    for name in (*(key.column for key in shape.keys), *(n for each in shape.names for n in each))
)

_ITEM = re.compile(r"\[total pts: .*\|\d+$", re.IGNORECASE)
_SUFFIXES = (
    re.compile(r" ?\(\d+\)$"),  # Canvas
    re.compile(r" ?\[Total Pts: [^\]]*\](?: ?\|\d+)?$", re.IGNORECASE),  # Blackboard
    re.compile(r" (?:Points )?Grade(?: <[^>]*>)?$", re.IGNORECASE),  # Brightspace
    re.compile(r" ?\((?:Real|Points)\)$", re.IGNORECASE),  # Moodle
)
_PREFIX = re.compile(r"^(?:Assignment|Quiz): ?(?=\S)", re.IGNORECASE)  # Moodle
_MAXIMUM = re.compile(r"\[Total Pts: (?:up to )?([\d.,]+)|MaxPoints:([\d.,]+)", re.IGNORECASE)
_COMPUTED = re.compile(r"end-of-line indicator|(?:calculated|adjusted) final grade|last downloaded")
_NUMBER = re.compile(r"#([1-9]\d{0,3})")
_MOST_NAMED = 20


def shape_of(header: Sequence[str]) -> Shape:
    """Return the shape of a file by its first row."""
    names = {folded(name) for name in header}
    if "id" in names and (names & {"student", "lastname"}):
        lms = Lms.CANVAS
    elif names & {"orgdefinedid", "end-of-line indicator"}:
        lms = Lms.BRIGHTSPACE
    elif "username" in names and any(_ITEM.search(name) for name in names):
        lms = Lms.BLACKBOARD
    elif names & {"email address", "id number"}:
        lms = Lms.MOODLE
    elif {"sid", "email"} <= names:
        lms = Lms.GRADESCOPE
    elif "student" in names:
        lms = Lms.PLAIN
    else:
        return _OTHER
    return next(shape for shape in SHAPES if shape.lms is lms)


def title_of(column: str) -> str:
    """Return the name of an assignment without the additions that systems make to it in the first row."""
    name = _PREFIX.sub("", " ".join(column.split()))
    for suffix in _SUFFIXES:
        title, count = suffix.subn("", name)
        if count and title:
            return title
    return name


def maximum_in(column: str) -> str:
    """Return the points that a column's name says are possible, or an empty text."""
    match = _MAXIMUM.search(column)
    return next(filter(None, match.groups()), "") if match else ""


def is_computed(column: str) -> bool:
    """Return whether the system fills a column itself."""
    return bool(_COMPUTED.match(folded(column)))


def place_of(column: str, header: Sequence[str]) -> int:
    """Return the place of the column that a name means: the whole name, the name of its assignment, or ``#7``.

    Raises:
        SheetError: There is no such column, or there are several.
    """
    number = _NUMBER.fullmatch(column)
    if number and column not in header and int(number[1]) <= len(header):
        return int(number[1]) - 1
    for form in (str, folded, title_of, lambda name: folded(title_of(name))):
        places = [place for place, name in enumerate(header) if form(name) == form(column)]
        if len(places) == 1:
            return places[0]
        if places:
            both = ", ".join(f"column {place + 1} ({header[place][:100]})" for place in places[:_MOST_NAMED])
            raise SheetError(
                f"row 1: {column} may be {both}; write the whole name of one, or its number, such as #{places[0] + 1}"
            )
    close = get_close_matches(column[:100], [title_of(name)[:100] for name in header], n=1, cutoff=0.6)
    meant = f"; did you mean {close[0][:100]}?" if close else ""
    names = ", ".join(name[:100] for name in header[:_MOST_NAMED]) + (", …" if len(header) > _MOST_NAMED else "")
    raise SheetError(f"row 1: expected a column named {column[:100]}{meant}; found {names}")

"""The choices of staff for files of grades, as commands and queries spell them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from broadway.domain.report import MAX_NAME
from broadway.domain.sheets import lms
from broadway.domain.sheets.entries import (
    CANVAS_ID,
    EMAIL,
    SIS_ID,
    USERNAME,
    Entry,
    Missing,
    SheetError,
    Written,
)
from broadway.domain.sheets.shapes import Key
from broadway.domain.sheets.writing import json_lines, plain_csv

MAX_KEYS = 10
MAX_IDENTIFIER = 200  # characters of an identifier's name


class Format(StrEnum):
    """A new file of grades."""

    CSV = "csv"
    JSONL = "jsonl"
    CANVAS = "canvas"
    MOODLE = "moodle"
    BRIGHTSPACE = "brightspace"
    GRADESCOPE = "gradescope"

    @property
    def suffix(self) -> str:
        """The end of a file's name, without its dot."""
        return "jsonl" if self is Format.JSONL else "csv"

    @property
    def media_type(self) -> str:
        """The type of a file's bytes, which are UTF-8."""
        return "application/x-ndjson" if self is Format.JSONL else "text/csv; charset=utf-8; header=present"


class StudentIs(StrEnum):
    """The identifier that a roster uses as the name of a student."""

    USERNAME = USERNAME
    EMAIL = EMAIL
    SIS_ID = SIS_ID
    CANVAS_ID = CANVAS_ID


class DecimalSign(StrEnum):
    """The sign before the decimals of a score."""

    POINT = "point"
    COMMA = "comma"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportChoice:
    """The choices of staff for a new file. ``title`` is that of the assignment in the system."""

    format: Format
    title: str
    missing: Missing = Missing.LEAVE
    decimal: DecimalSign = DecimalSign.POINT
    canvas_id: int | None = None

    def __post_init__(self) -> None:
        if self.decimal is DecimalSign.COMMA and self.format not in (Format.CSV, Format.MOODLE):
            raise SheetError(f"decimal: {self.format} expects a point; only csv and moodle take a comma")
        if self.canvas_id is not None and self.format is not Format.CANVAS:
            raise SheetError(f"canvas_id: the format {self.format} has no ids of Canvas; leave it out")


def exported(grades: Sequence[Entry], choice: ExportChoice) -> Written:
    """Return grades as a new file.

    Raises:
        SheetError: The system cannot have such a title or such grades; the text says why.
    """
    comma = choice.decimal is DecimalSign.COMMA
    match choice.format:
        case Format.CSV:
            return plain_csv(grades, missing=choice.missing, comma=comma)
        case Format.JSONL:
            return json_lines(grades, missing=choice.missing)
        case Format.GRADESCOPE:
            return lms.gradescope(grades, missing=choice.missing)
    item = lms.Item(title=choice.title, maximum=_maximum(grades), canvas_id=choice.canvas_id)
    match choice.format:
        case Format.CANVAS:
            return lms.canvas(grades, item, missing=choice.missing)
        case Format.MOODLE:
            return lms.moodle(grades, item, missing=choice.missing, comma=comma)
        case Format.BRIGHTSPACE:
            return lms.brightspace(grades, item, missing=choice.missing)


def _maximum(grades: Sequence[Entry]) -> Decimal | None:
    """Return the points that are possible, or None if grades do not agree on them."""
    maxima = {grade.maximum for grade in grades if grade.maximum is not None}
    return maxima.pop() if len(maxima) == 1 else None


def key_of(text: str) -> Key:
    """Return the pair of a column and an identifier that ``COLUMN=IDENTIFIER`` means.

    Raises:
        SheetError: The text is no such pair.
    """
    column, sign, identifier = (part.strip() for part in text.rpartition("="))
    if not (sign and column and identifier) or len(column) > MAX_NAME or len(identifier) > MAX_IDENTIFIER:
        raise SheetError(
            f"key {text[:100]!r}: expected the name of a column and that of an identifier, such as Matrikel=sis_id"
        )
    return Key(column, identifier)


def keys_of(texts: Sequence[str]) -> Sequence[Key]:
    """Return the keys of a merge in their order.

    Raises:
        SheetError: A text is no key, or there are too many.
    """
    if len(texts) > MAX_KEYS:
        raise SheetError(f"key: expected at most {MAX_KEYS}")
    return [key_of(text) for text in texts]

"""Points as the cells of a sheet. Pure."""

import re
from decimal import Decimal

from broadway.domain.report import points_of, shown

_LONGEST = 40  # characters of a number
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)")
NUMERIC = re.compile(r"[+-]?\d+(?:\.\d+)?")


def written(points: Decimal, *, places: int | None = None, comma: bool = False) -> str:
    """Return points without an exponent, rounded half to even if ``places`` says so."""
    text = shown(points if places is None else round(points, places))
    return text.replace(".", ",") if comma else text


def points_in(cell: str) -> Decimal | None:
    """Return the points that a cell has, or None. A comma is a decimal sign, as a point is."""
    text = cell.strip()
    if len(text) > _LONGEST or not text.isascii() or not _NUMBER.fullmatch(text):
        return None
    try:
        return points_of(Decimal(text.replace(",", ".")))
    except ValueError:
        return None

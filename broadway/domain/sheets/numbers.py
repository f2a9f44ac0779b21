"""Points as the cells of a sheet. Pure."""

import re
from decimal import Decimal, localcontext

from broadway.domain.report import LARGEST, shown

EXACT = 60  # digits; not fewer than an exact grade has
_LONGEST = EXACT + 4  # characters of a number: the digits of an exact grade, a sign, a zero and a point
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)")


def rounded(points: Decimal, places: int | None) -> Decimal:
    """Return points with at most ``places`` decimals, rounded half to even; all their digits if it is None."""
    with localcontext(prec=EXACT):
        return points if places is None else round(points, places)


def written(points: Decimal, *, places: int | None = None, comma: bool = False) -> str:
    """Return points without an exponent, rounded half to even if ``places`` says so."""
    with localcontext(prec=EXACT):
        text = shown(rounded(points, places))
    return text.replace(".", ",") if comma else text


def points_in(cell: str) -> Decimal | None:
    """Return the points that a cell has, with all their digits, or None. A comma is a decimal sign, as a point is."""
    text = cell.strip()
    if len(text) > _LONGEST or not text.isascii() or not _NUMBER.fullmatch(text):
        return None
    points = Decimal(text.replace(",", "."))
    return points if points.copy_abs() <= LARGEST else None

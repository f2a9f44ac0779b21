"""Points as people write them."""

from decimal import Decimal

from broadway.domain.report import shown


def number(value: Decimal | float | None) -> str:
    """Return points without an exponent and without zeros at the end; empty if there are none."""
    return "" if value is None else shown(Decimal(str(value)))


def out_of(score: Decimal | float | None, limit: Decimal | float | None) -> str:
    """Return a score with its maximum, if it has one; empty if there is no score."""
    if score is None:
        return ""
    return number(score) if limit is None else f"{number(score)} of {number(limit)}"

"""The order of the numbers of tests."""

import re

_DIGITS = re.compile(r"(\d{1,18})")


def natural(number: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which 1.2 comes before 1.10."""
    parts = _DIGITS.split(number)
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts if part]

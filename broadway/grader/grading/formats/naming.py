"""Names of tests: their keys, and the order of their numbers."""

import re
from collections import Counter
from collections.abc import Sequence

from broadway.domain.report import shortened

_LONGEST = 900  # characters of a key without its number
_DIGITS = re.compile(r"(\d{1,18})")


class Keys:
    """Keys of the tests of one report: their groups and their name, with ``#2`` and so on for repeated ones."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, group: Sequence[str], name: str) -> str:
        """Return the key of the next test."""
        key = shortened("/".join([*group, name]), _LONGEST)
        self._seen[key] += 1
        while self._seen[key] > 1 and (numbered := f"{key}#{self._seen[key]}") in self._seen:
            self._seen[key] += 1
        if self._seen[key] == 1:
            return key
        self._seen[numbered] += 1
        return numbered


def natural(number: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which 1.2 comes before 1.10."""
    parts = _DIGITS.split(number)
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts if part]

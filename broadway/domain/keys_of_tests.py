"""Keys of the tests of a report. Pure."""

from collections import Counter
from collections.abc import Sequence

from broadway.domain.report import shortened

_LONGEST = 900  # characters of a key without its number


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

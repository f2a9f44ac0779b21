"""The points of tests in formats without points: from a test's own properties, the stage's config, or one each."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase

from broadway.domain.report import Status

_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Worth:
    """The points that the stage's config gives to tests, by patterns of their names; the first that matches counts.

    Patterns have ``*`` and ``?``; brackets stand for themselves, since names of tests have them.
    """

    patterns: Sequence[tuple[str, Decimal]] = ()

    def of(self, *names: str) -> Decimal:
        """Return the points of a test with these names; one point if no pattern matches."""
        for pattern, points in self.patterns:
            if any(fnmatchcase(name, pattern.replace("[", "[[]")) for name in names):
                return points
        return _ONE

    def scored(
        self, status: Status, names: tuple[str, ...], points: Decimal | None, most: Decimal | None
    ) -> tuple[Decimal, Decimal]:
        """Return the score and the maximum of a test.

        ``points`` and ``most`` are what the test says of itself: its points, and its maximum. With a maximum, its
        points are those that it got; alone, they are its maximum.
        """
        if most is None:
            most = points if points is not None else self.of(*names)
            points = None
        if status is Status.SKIPPED:
            return Decimal(0), most
        if points is not None:
            return points, most
        return (most if status is Status.PASSED else Decimal(0)), most

"""Marks: the part of an attempt's report that lists and grades need, so that they read no report. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from broadway.domain.report import Report, Source, Visibility, points_of


@dataclass(frozen=True, slots=True)
class Marks:
    """The points of a report, as its file has them, and the visibilities that a student's view of them depends on.

    ``source`` is None if the attempt has no report. ``visibilities`` are those of the report and of all its tests: a
    student sees no total while one of them is closed.
    """

    source: Source | None = None
    score: Decimal | None = None
    max: Decimal | None = None
    gradable: bool = True
    visibilities: tuple[Visibility, ...] = (Visibility.VISIBLE,)

    @classmethod
    def of(cls, report: Report) -> Self:
        """Return the marks of a report."""
        found = {report.visibility, *(test.visibility or report.visibility for test in report.tests)}
        return cls(report.source, report.score, report.max, report.gradable, tuple(sorted(found)))

    @property
    def is_fraction(self) -> bool:
        """True if the score is a fraction of the maximum, as PrairieLearn's is, and not a number of points."""
        return self.source is Source.PRAIRIELEARN and self.score is not None and bool(self.max)

    def out_of(self, points: Decimal | None) -> tuple[Decimal | None, Decimal | None]:
        """Return the score and the maximum if the assignment has ``points``; None leaves them as they are.

        A fraction is scaled. Any other score counts as it is: a file in which tests are missing, as after a failed
        import, has a smaller maximum, and scaling would reward that.
        """
        if points is None or self.max == points:
            return self.score, self.max
        if self.is_fraction and self.score is not None and self.max:
            return points_of(self.score * points / self.max), points
        return self.score, points

"""Orders to adjust grades: points to add, a final number, or excused. Pure."""

from decimal import Decimal
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from broadway.domain.assignment_settings import MAX_POINTS
from broadway.domain.grade_book import MAX_NOTE, AdjustmentKind
from broadway.domain.roster import Student

AdjustedPoints = Annotated[
    Decimal, Field(ge=-MAX_POINTS, le=MAX_POINTS, allow_inf_nan=False, decimal_places=4, max_digits=12)
]


class AdjustmentOrder(BaseModel):
    """A change to a student's grade.

    `points` adds to the tests' points, or takes off; `final` replaces the computed grade; `excused` has no points. The
    student reads the reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    student: Student
    kind: AdjustmentKind = AdjustmentKind.POINTS
    points: AdjustedPoints | None = None
    reason: Annotated[str, StringConstraints(min_length=1, max_length=MAX_NOTE, strip_whitespace=True)]

    @model_validator(mode="after")
    def _has_its_points(self) -> Self:
        if (self.points is None) is not (self.kind is AdjustmentKind.EXCUSED):
            raise ValueError("points: expected a number, except for the kind excused, which has none")
        if self.kind is AdjustmentKind.FINAL and self.points is not None and self.points < 0:
            raise ValueError("points: expected at least 0 for the kind final")
        return self

"""Points in views, as numbers."""

from decimal import Decimal

from broadway.domain.marks import Marks

Points = dict[str, float | None]  # the fields ``score`` and ``max_score`` of views


def points(score: Decimal | None, limit: Decimal | None) -> Points:
    """Return points as fields of a view; a maximum alone is left out."""
    if score is None:
        return {"score": None, "max_score": None}
    return {"score": float(score), "max_score": None if limit is None else float(limit)}


def points_of(marks: Marks | None, of_assignment: Decimal | None) -> Points:
    """Return marks as fields of a view for staff; ``of_assignment``: the assignment's points."""
    return points(*marks.out_of(of_assignment)) if marks else points(None, None)

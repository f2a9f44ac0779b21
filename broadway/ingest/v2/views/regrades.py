"""Regrades as resources."""

from decimal import Decimal
from typing import Any

from broadway.domain.comparison import Flip
from broadway.domain.grade_book import BookEntry
from broadway.domain.regrade import Regrade
from broadway.domain.regrade_diff import Diff, Row
from broadway.domain.regrade_terms import Category, RegradeState
from broadway.domain.report import shown
from broadway.ingest.reads.regrades import Progress
from broadway.messages.resources.regrades import (
    FlipGroupView,
    FlipView,
    RegradedGrade,
    RegradeRow,
    RegradeSummary,
    RegradeView,
)


def regrade_fields(regrade: Regrade) -> dict[str, Any]:
    """Return the fields that all views of a regrade share."""
    order = regrade.order
    return {
        "id": regrade.id,
        "assignment": regrade.assignment,
        "state": regrade.state,
        "select": order.select,
        "control_percent": order.control_percent,
        "reason": order.reason,
        "config": regrade.config_digest,
        "created_at": regrade.created_at,
        "by": regrade.by,
        "submissions": regrade.submissions,
        "base": regrade.base,
        "rounds": len(regrade.plans),
        "ready_at": regrade.ready_at,
        "version": regrade.version,
        "published_at": regrade.published_at,
        "published_by": regrade.published_by,
        "note": regrade.note,
        "discarded_at": regrade.discarded_at,
        "discarded_by": regrade.discarded_by,
    }


def regrade_summary(regrade: Regrade) -> RegradeSummary:
    """Return a regrade in a list, with its stored state."""
    return RegradeSummary(**regrade_fields(regrade))


def regrade_view(regrade: Regrade, progress: Progress, diff: Diff | None) -> RegradeView:
    """Return a regrade with its progress, and with the difference that it makes if its jobs have ended."""
    fields = regrade_fields(regrade)
    if diff and diff.is_stale and regrade.state is RegradeState.READY:
        fields["state"] = RegradeState.STALE
    counts = {each: diff.counts[each] for each in Category if diff.counts.get(each)} if diff else None
    groups = diff.groups if diff else ()
    return RegradeView(
        **fields,
        jobs=progress.jobs,
        done=progress.done,
        counts=counts,
        groups=[
            FlipGroupView(**_flip(group.flip), count=group.count, students=list(group.students), text=group.sentence)
            for group in groups
        ],
        control=diff.control if diff else 0,
        unstable=list(diff.unstable) if diff else [],
        old_configs=list(diff.old_configs) if diff else [],
        new_configs=list(diff.configs) if diff else [],
        old_images=list(diff.old_images) if diff else [],
        new_images=list(diff.images) if diff else [],
    )


def regrade_row(course: str, row: Row) -> RegradeRow:
    """Return the difference for a student."""
    found = row.comparison
    return RegradeRow(
        student=row.student,
        category=row.category,
        old=_grade(course, row.old),
        new=_grade(course, row.new),
        flips=[FlipView(**_flip(flip)) for flip in found.flips],
        flips_count=found.flips_count,
        rescored=list(found.rescored),
        rescored_count=found.rescored_count,
        needs_run=row.needs_run,
        is_unstable=row.is_unstable,
    )


def _flip(flip: Flip) -> dict[str, Any]:
    return {"test": flip.test, "before": flip.before, "after": flip.after}


def _grade(course: str, entry: BookEntry | None) -> RegradedGrade | None:
    if entry is None:
        return None
    grade = entry.grade
    log = f"/api/v2/courses/{course}/jobs/{entry.job}/log?attempt={entry.execution}" if entry.execution else None
    return RegradedGrade(
        status=grade.status,
        points=_points(grade.points),
        max=_points(grade.max),
        submission=grade.submission,
        days_late=grade.days_late,
        late_days=grade.late_days,
        job=entry.job,
        attempt=entry.execution,
        log=log,
    )


def _points(points: Decimal | None) -> str | None:
    return None if points is None else shown(points)

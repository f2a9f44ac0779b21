"""Views of grades, versions and adjustments."""

from collections import Counter

from broadway.domain.grade_book import BookEntry, Draft, Published, StoredAdjustment, Version
from broadway.ingest.reads.grades import Book
from broadway.messages.resources.grades import (
    AdjustmentView,
    EntryForStaff,
    GradeLine,
    GradesPage,
    GradeView,
    VersionView,
)


def grade_view(entry: BookEntry, *, is_staff: bool) -> GradeView:
    """Return an entry as a role sees it."""
    grade = entry.grade
    return GradeView(
        student=grade.student,
        status=grade.status,
        points=grade.points,
        max=grade.max,
        submission=grade.submission,
        job=entry.job,
        number=grade.number,
        submitted_at=grade.submitted_at,
        delay=None if grade.delay is None else grade.delay.total_seconds(),
        days_late=grade.days_late,
        late_days=grade.late_days,
        closes_at=grade.closes_at,
        is_final=grade.is_final,
        lines=[GradeLine(text=line.text, points=line.points) for line in grade.lines],
        staff=_for_staff(entry) if is_staff else None,
    )


def _for_staff(entry: BookEntry) -> EntryForStaff:
    return EntryForStaff(
        job=entry.job,
        generation=entry.generation,
        execution=entry.execution,
        adjustments=list(entry.adjustments),
        unsettled=list(entry.grade.unsettled),
    )


def version_view(version: Version, *, published: int) -> VersionView:
    """Return a version; ``published`` is the number of the published one."""
    return VersionView(
        number=version.number,
        based_on=version.based_on,
        made_from=version.made_from,
        source=version.source,
        students=version.students,
        settings_version=version.settings_version,
        configs=list(version.configs),
        images=list(version.images),
        at=version.at,
        by=version.by,
        reason=version.reason,
        note=version.note,
        is_published=version.number == published,
    )


def grades_page(found: Draft | Book, pointer: Published | None, *, after: str | None, limit: int) -> GradesPage:
    """Return a page of the grades of a draft or a version, from the student after ``after``."""
    published = pointer.version if pointer else 0
    version = found.version if isinstance(found, Book) else None
    about = found.version if isinstance(found, Book) else found
    later = [each for each in found.entries if after is None or each.student > after]
    items = later[:limit]
    return GradesPage(
        published=published,
        version=version_view(version, published=published) if version else None,
        at=about.at,
        settings_version=about.settings_version,
        students=len(found.entries),
        statuses=dict(Counter(each.grade.status for each in found.entries)),
        unsettled=sum(bool(each.grade.unsettled) for each in found.entries),
        items=[grade_view(each, is_staff=True) for each in items],
        next=items[-1].student if len(later) > limit else None,
    )


def adjustment_view(adjustment: StoredAdjustment) -> AdjustmentView:
    """Return an adjustment."""
    return AdjustmentView(
        id=adjustment.id,
        student=adjustment.student,
        kind=adjustment.kind,
        points=adjustment.points,
        reason=adjustment.reason,
        at=adjustment.at,
        by=adjustment.by,
        withdrawn_at=adjustment.withdrawn_at,
        withdrawn_by=adjustment.withdrawn_by,
        withdrawn_reason=adjustment.withdrawn_reason,
    )

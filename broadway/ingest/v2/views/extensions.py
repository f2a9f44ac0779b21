"""Extensions as resources."""

from broadway.domain.extension import Extension
from broadway.ingest.reads.extensions import ChangedTimes, Preview, Times
from broadway.ingest.v2.views.standings import time_view
from broadway.messages.resources.extensions import ChangedTimesView, ExtensionPreview, ExtensionView, TimesView


def extension_view(extension: Extension, *, is_in_force: bool, warning: str = "") -> ExtensionView:
    return ExtensionView(
        id=extension.id,
        order=extension.order,
        at=extension.at,
        by=extension.by,
        is_in_force=is_in_force,
        warning=warning,
    )


def preview_view(preview: Preview) -> ExtensionPreview:
    students = [_changed(each) for each in preview.students]
    return ExtensionPreview(students=students, count=preview.count, warning=preview.warning)


def _changed(changed: ChangedTimes) -> ChangedTimesView:
    member = changed.member
    before, after = _times(changed.before), _times(changed.after)
    return ChangedTimesView(student=member.student, group=member.group, before=before, after=after)


def _times(times: Times) -> TimesView:
    clock = times.schedule.clock
    return TimesView(due=time_view(clock, times.schedule.due_at), closes=time_view(clock, times.closes_at))

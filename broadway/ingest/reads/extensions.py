"""Reads of extensions, and previews of an extension: the times of its students before and after."""

from dataclasses import dataclass
from datetime import datetime

from broadway.domain.extension import Extension, ExtensionOrder, Latest, Member, by_target, for_member
from broadway.domain.pages import Slice, sliced
from broadway.domain.policy import Policy
from broadway.domain.schedule import Schedule, last_end, schedules_of, useless
from broadway.ingest.reads.members import MemberReads
from broadway.ingest.reads.stores import ExtensionQueries
from broadway.lifecycle.stores import CurrentSettings
from broadway.runtime.clock import now

MOST_SHOWN = 100  # students of a preview


@dataclass(frozen=True, slots=True)
class StoredExtension:
    """An extension. It is in force unless it is withdrawn or replaced; one without times is a withdrawal."""

    extension: Extension
    is_in_force: bool


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a student: the last due time, and the end of the last submissions with the grace."""

    schedule: Schedule
    closes_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChangedTimes:
    """The times of a student before and after an extension."""

    member: Member
    before: Times
    after: Times


@dataclass(frozen=True, slots=True)
class Preview:
    """The students of an extension, at most ``MOST_SHOWN`` of ``count``; and why it has no effect, or empty."""

    students: list[ChangedTimes]
    count: int
    warning: str


@dataclass(frozen=True, slots=True)
class ExtensionReads:
    """Reads of the extensions of any assignment."""

    extensions: ExtensionQueries
    settings: CurrentSettings
    members: MemberReads

    async def page(
        self, course: str, assignment: str, *, in_force: bool, after: str | None, limit: int
    ) -> Slice[StoredExtension]:
        """Return a page of extensions in the order in which they were added; only those in force if that is wanted."""
        known = await self.extensions.of_assignment(course, assignment)
        latest = by_target(known)
        found = [StoredExtension(each, _is_in_force(each, latest)) for each in known if each.id > (after or "")]
        wanted = [each for each in found if each.is_in_force or not in_force]
        return sliced(wanted[: limit + 1], limit, lambda each: each.extension.id)

    async def present(self, course: str, assignment: str, order: ExtensionOrder) -> Extension | None:
        """Return the extension in force of an order's target, or None."""
        latest = by_target(await self.extensions.of_assignment(course, assignment))
        found = latest.get((order.target, order.name))
        return found if found and not found.order.is_empty else None

    async def preview(self, course: str, assignment: str, order: ExtensionOrder) -> Preview:
        """Return the times of the students whom an extension would be for, before and after it. Nothing is stored."""
        policy = (await self.settings.current(course, assignment)).settings.policy
        known = await self.extensions.of_assignment(course, assignment)
        extension = Extension("~", order, now())
        before, after = by_target(known), by_target([*known, extension])
        meant = [each for each in await self.members.of_assignment(course, assignment) if each.is_meant_by(order)]
        students = [
            ChangedTimes(each, _times(policy, before, each), _times(policy, after, each)) for each in meant[:MOST_SHOWN]
        ]
        return Preview(students, len(meant), useless(policy, extension) or "")


def _is_in_force(extension: Extension, latest: Latest) -> bool:
    order = extension.order
    return not order.is_empty and latest.get((order.target, order.name)) is extension


def _times(policy: Policy, latest: Latest, member: Member) -> Times:
    schedules = schedules_of(policy, for_member(latest, member), member)
    return Times(schedules[0], last_end(schedules))

"""Reads of students' standings: times, attempts, late days and submissions of an assignment for one student."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from broadway.domain.assignment_settings import AssignmentSettings, SettingsVersion, Start
from broadway.domain.extension import Extension, Latest, Member, by_target, for_member
from broadway.domain.hand_in import TAKEN, Entrant, Ruling, attempts_of, is_open, ruling
from broadway.domain.pages import Slice, sliced
from broadway.domain.parts import in_parts
from broadway.domain.roster import Roster
from broadway.domain.schedule import Schedule, last_end, schedules_of
from broadway.domain.visibility import Standing
from broadway.domain.work import Attempts, Work
from broadway.ingest.reads.handed_in import HandedInReads, HandedInWork, waiting
from broadway.ingest.reads.members import member_of
from broadway.ingest.reads.stores import AssignmentQueries, ChosenSubmissions, ExtensionQueries, LateDayClaims
from broadway.ingest.reads.works import WorkReads
from broadway.lifecycle.grade_books import PublishedBooks
from broadway.lifecycle.stores import RecentRosters
from broadway.runtime.clock import now

AT_ONCE = 5  # assignments that are read at the same time


class RecentSettings(Protocol):
    """The settings of assignments, which may be a second behind the store."""

    async def recent(self, course: str, assignment: str) -> SettingsVersion:
        """Return the latest version of an assignment's settings, or the defaults as version 0."""


class ChargedLateDays(Protocol):
    """The late days that other assignments of a course have charged."""

    async def charged_before(self, course: str, assignment: str, student: str | None = None) -> Mapping[str, int]:
        """Return the late days that assignments with an earlier due time have charged, of all students or of one."""

    async def charged_before_each(self, course: str, student: str) -> Mapping[str, int]:
        """Return the late days that a student has used before each assignment with late days, by assignment."""


@dataclass(frozen=True, slots=True)
class StudentStanding:
    """The standing of a student in an assignment at a moment.

    ``schedule`` is the one with the last due time, and ``closes_at`` the end of the last submissions under any, with
    the grace. ``ruling`` is the decision on a submission of this moment. ``found`` has the uploads and pushes of the
    student and the group, latest first. With ``is_group``, the name is a group's, and no member's.
    """

    assignment: str
    member: Member
    settings: AssignmentSettings
    schedule: Schedule
    closes_at: datetime | None
    ruling: Ruling
    attempts: Attempts | None
    found: Sequence[HandedInWork]
    at: datetime
    is_group: bool = False

    @property
    def taken(self) -> frozenset[str]:
        """The ids of the uploads and pushes that are graded, or are going to be."""
        return frozenset(each.id for each in self.found if each.is_taken)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The settings, the roster and the extensions of an assignment."""

    settings: AssignmentSettings
    roster: Roster | None
    latest: Latest

    def of_member(self, member: Member) -> list[Extension]:
        return for_member(self.latest, member)

    def schedules(self, member: Member) -> list[Schedule]:
        return schedules_of(self.settings.policy, self.of_member(member), member)


@dataclass(frozen=True, slots=True)
class StandingReads:
    """Reads of the standings of any student."""

    assignments: AssignmentQueries
    settings: RecentSettings
    rosters: RecentRosters
    extensions: ExtensionQueries
    claims: LateDayClaims
    choices: ChosenSubmissions
    handed_in: HandedInReads
    graded: WorkReads
    charged: ChargedLateDays
    books: PublishedBooks

    async def of_student(self, course: str, assignment: str, student: str) -> StudentStanding | None:
        """Return a student's standing; None if there is no such assignment, or the student takes no part in it.

        Students take part who are in the roster or have submitted, or all if there is no roster. The name of a group
        stands for a member without late days.
        """
        if await self.assignments.get(course, assignment) is None:
            return None
        return await self._of_student(course, assignment, student)

    async def of_course(self, course: str, student: str, *, after: str | None, limit: int) -> Slice[StudentStanding]:
        """Return a page of a student's standings in the assignments that the student takes part in, by name."""
        names = [name for name in await self.assignments.names(course) if name > (after or "")]
        settings = [(await self.settings.recent(course, name)).settings for name in names]
        has_late_days = any(each.policy.late_days for each in settings)
        charged = await self.charged.charged_before_each(course, student) if has_late_days else {}
        standings: list[StudentStanding] = []
        for some in in_parts(names, AT_ONCE):
            found = await asyncio.gather(
                *(self._of_student(course, name, student, charged=charged.get(name, 0)) for name in some)
            )
            standings += [each for each in found if each]
            if len(standings) > limit:
                break
        return sliced(standings[: limit + 1], limit, lambda each: each.assignment)

    async def ruling(self, course: str, assignment: str, name: str, at: datetime, identity: str = "") -> Ruling:
        """Return the decision on a submission of a student or a group, received at a moment.

        No submission is refused that may count, by the submissions and results that are stored. Of several that arrive
        together more than a limit allows may be taken; their grade decides which of them count.
        """
        settings = (await self.settings.recent(course, assignment)).settings
        policy = settings.policy
        if is_open(policy):
            return TAKEN
        rules = await self._rules(course, assignment, settings)
        members = _members(rules.roster, name)
        if policy.attempts is None:
            return ruling(policy, _entrants(rules, members, []), at, identity)
        found = await self._found(course, assignment, members)
        if not policy.attempts.cooldown_seconds:  # otherwise an attempt that is given back may take another one
            early = ruling(policy, _entrants(rules, members, _named(found, waiting(found))), at, identity)
            if early.is_taken:
                return early
        works = await self._works(course, assignment, settings, members, found)
        return ruling(policy, _entrants(rules, members, works), at, identity)

    async def of_report(self, course: str, assignment: str, name: str) -> Standing:
        """Return the state by which a student sees the reports of a student or a group.

        Parts that are visible after the due time need the end of that student's own last submissions, and in a group
        that of all members, who hand in for each other.
        """
        settings = (await self.settings.recent(course, assignment)).settings
        rules = await self._rules(course, assignment, settings)
        ends = [last_end(rules.schedules(member)) for member in _members(rules.roster, name, with_group=True)]
        known = [end for end in ends if end is not None]
        published = await self.books.published(course, assignment)
        return Standing(
            now(),
            closes_at=max(known) if len(known) == len(ends) else None,
            is_published=published is not None and published.is_visible,
            points=settings.points,
        )

    async def names_of(self, course: str, assignment: str, student: str) -> frozenset[str]:
        """Return the names below which a student's submissions for an assignment are: the own and the group's."""
        roster = await self.rosters.recent(course, assignment)
        return member_of(student, roster.of_person(student) if roster else None).names

    async def submitter_of(self, course: str, assignment: str, student: str) -> str:
        """Return the name below which a student hands in: that of the group in which the student is a member."""
        roster = await self.rosters.recent(course, assignment)
        entry = roster.of_person(student) if roster else None
        return entry.student if entry else student

    async def _of_student(
        self, course: str, assignment: str, student: str, *, charged: int | None = None
    ) -> StudentStanding | None:
        """Return a standing; ``charged`` are the late days used before the assignment if they are known."""
        roster = await self.rosters.recent(course, assignment)
        entry = (roster.of_person(student) or roster.of_student(student)) if roster else None
        names = member_of(student, entry).names
        found = await self.handed_in.of_names(course, assignment, names)
        if roster is not None and entry is None and not found:
            return None
        settings = (await self.settings.recent(course, assignment)).settings
        member = member_of(
            student,
            entry,
            days_left=await self._days_left(course, assignment, student, settings, charged),
            claimed=await self.claims.of_student(course, assignment, student),
            chosen=await self.choices.of_student(course, assignment, student),
        )
        standing = await self._standing(
            course, assignment, member, await self._rules(course, assignment, settings), found
        )
        return replace(standing, is_group=entry is not None and student not in entry.people)

    async def _days_left(
        self, course: str, assignment: str, student: str, settings: AssignmentSettings, charged: int | None
    ) -> int:
        rule = settings.policy.late_days
        if rule is None:
            return 0
        if charged is None:
            charged = (await self.charged.charged_before(course, assignment, student)).get(student, 0)
        return max(0, rule.per_course - charged)

    async def _standing(
        self, course: str, assignment: str, member: Member, rules: _Rules, found: Sequence[HandedInWork]
    ) -> StudentStanding:
        at, settings = now(), rules.settings
        schedules = rules.schedules(member)
        works: list[Work] = []
        if settings.policy.attempts:
            works = [work for _, work in await self._works(course, assignment, settings, [member], found)]
        return StudentStanding(
            assignment=assignment,
            member=member,
            settings=settings,
            schedule=schedules[0],
            closes_at=last_end(schedules),
            ruling=ruling(settings.policy, [Entrant(member, rules.of_member(member), works)], at, is_asked=True),
            attempts=attempts_of(settings.policy, schedules[0], works, at),
            found=found,
            at=at,
        )

    async def _rules(self, course: str, assignment: str, settings: AssignmentSettings) -> _Rules:
        roster = await self.rosters.recent(course, assignment)
        has_times = settings.policy.deadline.due is not None
        extensions = await self.extensions.of_assignment(course, assignment) if has_times else []
        return _Rules(settings, roster, by_target(extensions))

    async def _works(
        self,
        course: str,
        assignment: str,
        settings: AssignmentSettings,
        members: Sequence[Member],
        found: Sequence[HandedInWork],
    ) -> list[tuple[str, Work]]:
        """Return works with their results and the names below which they were handed in.

        They are those of the submissions' own jobs, unless these are not known: of uploads that runs for the roster
        grade, or whose deliveries are removed.
        """
        if settings.starts is Start.AT_ONCE and all(each.delivery for each in found):
            return _named(found, await self.handed_in.works(found, settings.points))
        names = sorted({name for member in members for name in member.names})
        graded = await self.graded.of_assignment(course, assignment, settings, students=names, published=_no_regrade)
        return [(each.student, each.work) for each in graded]

    async def _found(self, course: str, assignment: str, members: Sequence[Member]) -> list[HandedInWork]:
        names = {name for member in members for name in member.names}
        return await self.handed_in.of_names(course, assignment, names)


def _members(roster: Roster | None, name: str, *, with_group: bool = False) -> list[Member]:
    """Return the students of a submission below a name: all members of a group, or a student.

    ``with_group`` adds the other members of the student's group.
    """
    entry = (roster.of_student(name) or roster.of_person(name)) if roster else None
    people = entry.people if entry and (with_group or entry.student == name) else (name,)
    return [member_of(student, entry) for student in people]


async def _no_regrade(*_: str) -> frozenset[str]:
    """Return no executions: a regrade has no effect on attempts."""
    return frozenset()


def _named(found: Sequence[HandedInWork], works: Iterable[Work]) -> list[tuple[str, Work]]:
    """Return works with the names below which they were handed in."""
    names = {each.id: each.student for each in found}
    return [(names[work.id], work) for work in works]


def _entrants(rules: _Rules, members: Sequence[Member], works: Sequence[tuple[str, Work]]) -> list[Entrant]:
    return [
        Entrant(member, rules.of_member(member), [work for name, work in works if name in member.names])
        for member in members
    ]

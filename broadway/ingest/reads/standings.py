"""Reads of students' standings: times, attempts, late days and submissions of an assignment for one student."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.extension import Extension, Member, by_target, for_member
from broadway.domain.hand_in import TAKEN, Entrant, Ruling, attempts_of, is_open, ruling
from broadway.domain.pages import Slice, sliced
from broadway.domain.policy import Policy
from broadway.domain.roster import Roster
from broadway.domain.schedule import Schedule, last_end, schedules_of
from broadway.domain.work import Attempts
from broadway.ingest.reads.handed_in import HandedInReads, HandedInWork, waiting
from broadway.ingest.reads.members import MemberReads, member_of
from broadway.ingest.reads.stores import AssignmentQueries, ExtensionQueries
from broadway.lifecycle.stores import AssignmentRosters, CurrentSettings
from broadway.runtime.clock import now


class ChargedLateDays(Protocol):
    """The late days that other assignments of a course have charged."""

    async def charged_before(self, course: str, assignment: str) -> Mapping[str, int]:
        """Return the late days that assignments with an earlier due time have charged, by student."""


class PublishedBooks(Protocol):
    """The published grade books."""

    async def is_published(self, course: str, assignment: str) -> bool:
        """Return whether a version of an assignment's grade book is published."""


@dataclass(frozen=True, slots=True)
class StudentStanding:
    """The standing of a student in an assignment at a moment.

    ``schedule`` is the one with the last due time, and ``closes_at`` the end of the last submissions under any, with
    the grace. ``ruling`` is the decision on a submission of this moment. ``found`` has the uploads and pushes of the
    student and the group, latest first.
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


@dataclass(frozen=True, slots=True)
class StandingReads:
    """Reads of the standings of any student."""

    assignments: AssignmentQueries
    settings: CurrentSettings
    rosters: AssignmentRosters
    extensions: ExtensionQueries
    members: MemberReads
    handed_in: HandedInReads
    charged: ChargedLateDays
    books: PublishedBooks

    async def of_student(self, course: str, assignment: str, student: str) -> StudentStanding | None:
        """Return a student's standing; None if there is no such assignment, or it has a roster without the student.

        The name of a group stands for a member without late days.
        """
        if await self.assignments.get(course, assignment) is None:
            return None
        roster = await self.rosters.get(course, assignment)
        found = await self.handed_in.of_names(course, assignment, names_of(roster, student))
        is_listed = roster is None or roster.of_person(student) or roster.of_student(student)
        return await self._standing(course, assignment, student, found) if is_listed or found else None

    async def of_course(
        self, course: str, student: str, *, after: str | None, limit: int
    ) -> Slice[StudentStanding]:
        """Return a page of a student's standings in all assignments that the student takes part in, by name."""
        standings: list[StudentStanding] = []
        for name in await self.assignments.names(course):
            if name > (after or "") and (standing := await self.of_student(course, name, student)):
                standings.append(standing)
            if len(standings) > limit:
                break
        return sliced(standings, limit, lambda each: each.assignment)

    async def ruling(self, course: str, assignment: str, name: str, at: datetime, identity: str = "") -> Ruling:
        """Return the decision on a submission of a student or a group, received at a moment.

        No submission is refused that could count, by the submissions that are stored. Of several that arrive together
        more than the limit may be taken; the grade decides which of them count.
        """
        settings = (await self.settings.current(course, assignment)).settings
        policy = settings.policy
        if is_open(policy):
            return TAKEN
        roster = await self.rosters.get(course, assignment)
        latest = by_target(await self.extensions.of_assignment(course, assignment))
        members = self._entry(roster, name)
        found = []
        if policy.attempts:
            names = {name for member in members for name in member.names}
            found = await self.handed_in.of_names(course, assignment, names)
            is_simple = not policy.attempts.cooldown_seconds  # then results can only free attempts
            if is_simple and not ruling(policy, _entrants(members, latest, found), at, identity).text:
                return TAKEN
        return ruling(...)

    async def closes_at(self, course: str, assignment: str, name: str) -> datetime | None:
        """Return the end of the last submissions of a student, or of all members of a group; None if there is none."""

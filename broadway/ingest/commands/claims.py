"""Late days that students claim, and the submissions that they choose to count."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.extension import Member
from broadway.domain.policy import Counts, LateDays, Spend
from broadway.domain.schedule import Schedule
from broadway.runtime.clock import now

NOT_IN_ASSIGNMENT = "this course has no such assignment, or the student takes no part in it"


class NoPlaceError(LookupError):
    """The course has no such assignment, or the student takes no part in it."""


class ClaimRefusedError(ValueError):
    """The policy does not allow such a claim or choice; the text is for the student."""


class Place(Protocol):
    """The place of a student in an assignment, as ``StandingReads`` returns it."""

    @property
    def member(self) -> Member:
        """The student."""

    @property
    def settings(self) -> AssignmentSettings:
        """The assignment's settings."""

    @property
    def schedule(self) -> Schedule:
        """The schedule with the last due time."""

    @property
    def closes_at(self) -> datetime | None:
        """The end of the student's last submissions, or None."""

    @property
    def is_group(self) -> bool:
        """True if the name is a group's, and no member's."""

    @property
    def taken(self) -> Collection[str]:
        """The ids of the submissions of the student and the group that are graded, or are going to be."""


class Places(Protocol):
    """The places of students."""

    async def of_student(self, course: str, assignment: str, student: str) -> Place | None:
        """Return the place of a student in an assignment, or None."""


class StoredClaims(Protocol):
    """The late days that students have claimed."""

    async def put(self, course: str, assignment: str, student: str, days: int) -> None:
        """Store the days of a student; they replace an earlier claim."""


class StoredChoices(Protocol):
    """The submissions that students have chosen."""

    async def put(self, course: str, assignment: str, student: str, submission: str | None) -> None:
        """Store a student's choice; None takes it back."""


@dataclass(frozen=True, slots=True)
class StudentClaims:
    """Stores claims and choices, of students within their own times, and of staff at any time."""

    places: Places
    claims: StoredClaims
    choices: StoredChoices

    async def claim(self, course: str, assignment: str, student: str, days: int, *, by_staff: bool) -> Place:
        """Set the late days that a student uses for an assignment, instead of an earlier claim.

        Raises:
            NoPlaceError: The student takes no part in the assignment.
            ClaimRefusedError: The policy has no late days to claim, or not as many; or it is too late for a student.
        """
        place = await self._place(course, assignment, student)
        rule = place.settings.policy.late_days
        if rule is None or rule.spend is not Spend.CLAIMED:
            kind = "has no late days" if rule is None else "uses late days by itself, without a claim"
            raise ClaimRefusedError(f"{assignment} {kind}")
        most = rule.per_assignment if by_staff else _most(rule, place.member)
        if days > most:
            left = f" and {place.member.late_days_left} are left" if not by_staff else ""
            raise ClaimRefusedError(f"days: {rule.per_assignment} may be used for {assignment}{left}")
        if not by_staff:
            _demand_open(place, assignment)
            if days < place.member.late_days_claimed and place.schedule.is_late(now()):
                raise ClaimRefusedError("days: a claim cannot be lowered after the due time; ask the course staff")
        await self.claims.put(course, assignment, student, days)
        return place

    async def choose(
        self, course: str, assignment: str, student: str, submission: str | None, *, by_staff: bool
    ) -> Place:
        """Set the submission that counts for a student, or take the choice back.

        Raises:
            NoPlaceError: The student takes no part in the assignment.
            ClaimRefusedError: The policy has no choice, the submission is not the student's, or the assignment has
                closed for the student.
        """
        place = await self._place(course, assignment, student)
        counts = place.settings.policy.counts
        if counts is not Counts.CHOSEN:
            raise ClaimRefusedError(f"{assignment} counts the submission that is {counts}, not one that is chosen")
        if submission is not None and submission not in place.taken:
            raise ClaimRefusedError(
                f"submission: {student} has no submission {submission} for {assignment} that counts"
            )
        if not by_staff:
            _demand_open(place, assignment)
        await self.choices.put(course, assignment, student, submission)
        return place

    async def _place(self, course: str, assignment: str, student: str) -> Place:
        place = await self.places.of_student(course, assignment, student)
        if place is None:
            raise NoPlaceError(NOT_IN_ASSIGNMENT)
        if place.is_group:
            raise ClaimRefusedError(f"student: {student} is a group; each member claims and chooses for itself")
        return place


def _most(rule: LateDays, member: Member) -> int:
    return max(0, min(rule.per_assignment, member.late_days_left))


def _demand_open(place: Place, assignment: str) -> None:
    """Return if the assignment has not closed for a student.

    Raises:
        ClaimRefusedError: It has.
    """
    if place.closes_at is not None and now() > place.closes_at:
        closed = place.schedule.clock.shown(place.closes_at)
        raise ClaimRefusedError(f"{assignment} closed at {closed}; ask the course staff")

"""Reads of the members of assignments: the students with all that decides on the rules that hold for them alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from broadway.domain.extension import Member
from broadway.domain.roster import RosterEntry
from broadway.ingest.reads.stores import ChosenSubmissions, LateDayClaims
from broadway.lifecycle.stores import AssignmentRosters

DaysLeft = Callable[[str], int]  # the late days of the course that a student has left before an assignment


def no_days(_: str) -> int:
    """Return 0, for readers that do not ask for late days."""
    return 0


@dataclass(frozen=True, slots=True)
class MemberReads:
    """Reads of the members of any assignment."""

    rosters: AssignmentRosters
    claims: LateDayClaims
    choices: ChosenSubmissions

    async def of_assignment(
        self, course: str, assignment: str, *, submitters: Iterable[str] = (), days_left: DaysLeft = no_days
    ) -> list[Member]:
        """Return the members of an assignment: those of the roster in its order, then others who have submitted.

        Args:
            course: The course.
            assignment: The assignment.
            submitters: The names below which there are submissions. Those that are neither an entry of the roster nor
                a member of one are students of their own, by name.
            days_left: Returns the late days of the course that a student has left before this assignment.
        """
        roster = await self.rosters.get(course, assignment)
        entries = roster.students if roster else ()
        claims = await self.claims.of_assignment(course, assignment)
        choices = await self.choices.of_assignment(course, assignment)
        known = {name for entry in entries for name in (entry.student, *entry.members)}
        found = [(student, entry) for entry in entries for student in entry.people]
        others = [(student, None) for student in sorted(set(submitters) - known)]
        return [
            member_of(
                student,
                entry,
                days_left=days_left(student),
                claimed=claims.get(student, 0),
                chosen=choices.get(student),
            )
            for student, entry in (*found, *others)
        ]

    async def one(self, course: str, assignment: str, student: str, *, days_left: DaysLeft = no_days) -> Member:
        """Return a student as a member of an assignment.

        One who is not in the roster is a student without a group, and the name of a group stands for a member of it.
        """
        roster = await self.rosters.get(course, assignment)
        claimed = await self.claims.of_student(course, assignment, student)
        chosen = await self.choices.of_student(course, assignment, student)
        entry = (roster.of_person(student) or roster.of_student(student)) if roster else None
        return member_of(student, entry, days_left=days_left(student), claimed=claimed, chosen=chosen)


def member_of(
    student: str, entry: RosterEntry | None, *, days_left: int = 0, claimed: int = 0, chosen: str | None = None
) -> Member:
    """Return a student of a roster's entry; None stands for a student who is in no entry."""
    return Member(
        student,
        group=entry.student if entry and entry.members else None,
        labels=frozenset(entry.labels) if entry else frozenset(),
        late_days_left=days_left,
        late_days_claimed=claimed,
        chosen=chosen,
    )

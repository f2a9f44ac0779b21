"""Rosters: the students of an assignment, their environments and repositories."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from broadway.domain.assignment import Env
from broadway.domain.bounds import MAX_INT, MIN_INT
from broadway.domain.course import MAX_STUDENTS
from broadway.domain.formulas import identifier_problem
from broadway.domain.variables import env_problem, reserved_problem

MAX_MEMBERS = 100  # of a group
MAX_LABELS = 20  # of an entry
MAX_STUDENT_NAME = 200  # characters of a student's or a group's name

Student = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STUDENT_NAME)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class UnusableRosterError(ValueError):
    """A new roster has an entry that can match no submission; the text names the entry and the field."""


class UnusableEnvError(UnusableRosterError):
    """A new roster has an entry whose variables no program can have, or that sets one of Broadway's own."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _is_absent(names: tuple[str, ...]) -> bool:
    """Return whether a list has no names; an entry without it is stored and answered as by earlier versions."""
    return not names


class RosterEntry(_Part):
    """A student or a group: the environment of its jobs, and the repository that it pushes to.

    An entry with ``members`` is a group of the name ``student``; one without members is one student. ``labels`` are for
    extensions.
    """

    student: Student
    members: tuple[Student, ...] = Field(default=(), max_length=MAX_MEMBERS, exclude_if=_is_absent)
    labels: tuple[Label, ...] = Field(default=(), max_length=MAX_LABELS, exclude_if=_is_absent)
    env: Env = {}
    repository: str | None = Field(default=None, min_length=1, max_length=300)
    repository_id: int | None = Field(default=None, ge=MIN_INT, le=MAX_INT)

    @property
    def people(self) -> tuple[str, ...]:
        """The students of the entry: the members, or the one student."""
        return self.members or (self.student,)


class Roster(_Part):
    """The students of an assignment."""

    students: Annotated[tuple[RosterEntry, ...], Field(max_length=MAX_STUDENTS)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        """Refuse a student or a repository that is listed twice."""
        for key in ("student", "repository", "repository_id"):
            seen: set[Any] = set()
            for index, entry in enumerate(self.students):
                value = getattr(entry, key)
                value = value.casefold() if key == "repository" and value else value
                if value is not None and value in seen:
                    raise ValueError(f"students.{index}.{key}: {value} is listed twice")
                seen.add(value)
        return self

    @model_validator(mode="after")
    def _distinct_people(self) -> Self:
        """Refuse a student who is in two entries, and a member with the name of another entry."""
        entries = {entry.student: index for index, entry in enumerate(self.students)}
        seen: set[str] = set()
        for index, entry in enumerate(self.students):
            for member in entry.members:
                if member in seen:
                    raise ValueError(f"students.{index}.members: {member} is listed twice")
                if entries.get(member, index) != index:
                    raise ValueError(f"students.{index}.members: {member} has an entry of its own")
                seen.add(member)
        return self

    def check_entries(self) -> None:
        """Return if the variables of every entry are allowed, and it can match a submission.

        Stored rosters are not checked again.

        Raises:
            UnusableEnvError: The variables of an entry are not allowed.
            UnusableRosterError: An entry matches nothing.
        """
        for index, entry in enumerate(self.students):
            if problem := env_problem(entry.env) or reserved_problem(entry.env):
                raise UnusableEnvError(f"students.{index}.env: {problem}")
        for index, entry in enumerate(self.students):
            if problem := _unmatchable(entry):
                raise UnusableRosterError(f"students.{index}.{problem}")

    def check_groups(self, most: int | None) -> None:
        """Return if no group has more members than the assignment's policy allows.

        Raises:
            UnusableRosterError: A group has.
        """
        for index, entry in enumerate(self.students):
            if most is not None and len(entry.members) > most:
                raise UnusableRosterError(
                    f"students.{index}.members: {entry.student} has {len(entry.members)} members; the assignment's "
                    f"policy allows {most} (groups.max)"
                )

    def check_repositories(self, hook: str) -> None:
        """Return if a push to a hook can match an entry; the hook finds students by the repository.

        Raises:
            UnusableRosterError: No entry has a repository.
        """
        if self.students and not any(each.repository or each.repository_id for each in self.students):
            raise UnusableRosterError(
                "students: no entry has a repository or repository_id (in CSV: columns of these names), so no push to "
                f"the hook {hook} would match"
            )

    def of_student(self, student: str) -> RosterEntry | None:
        """Return the entry of a student, or None."""
        return self._by_student.get(student)

    def of_person(self, student: str) -> RosterEntry | None:
        """Return the entry of a student: that of the group in which the student is a member, or the student's own."""
        return self._by_person.get(student)

    def of_repository(self, identity: int | None, name: str) -> RosterEntry | None:
        """Return the entry of a repository, or None. Its id takes precedence over its name, which may have changed."""
        by_id = self._by_identity.get(identity) if identity else None
        if by_id:
            return by_id
        by_name = self._by_name.get(name.casefold())
        return by_name if by_name and by_name.repository_id in (None, identity) else None

    @cached_property
    def _by_student(self) -> Mapping[str, RosterEntry]:
        return {entry.student: entry for entry in self.students}

    @cached_property
    def _by_person(self) -> Mapping[str, RosterEntry]:
        return {person: entry for entry in self.students for person in entry.people}

    @cached_property
    def _by_identity(self) -> Mapping[int, RosterEntry]:
        return {entry.repository_id: entry for entry in self.students if entry.repository_id}

    @cached_property
    def _by_name(self) -> Mapping[str, RosterEntry]:
        return {entry.repository.casefold(): entry for entry in self.students if entry.repository}


def _problem_in_sheets(field: str, names: Sequence[str]) -> str | None:
    """Return the name that a spreadsheet would run as a formula, since grades are exported to such files, or None."""
    problems = (identifier_problem(name, name=f"{field}:") for name in names)
    return next(filter(None, problems), None)


def _unmatchable(entry: RosterEntry) -> str | None:
    """Return the field of an entry that matches nothing, with the reason."""
    for field, names in (("student", [entry.student]), ("members", entry.members), ("labels", entry.labels)):
        if any(name != name.strip() for name in names):
            return f"{field}: has blanks around it, which no submission names"
        if problem := _problem_in_sheets(field, names):
            return problem
    repository = entry.repository
    if repository is None:
        return None
    if "://" in repository or repository.startswith("git@") or repository.endswith(".git"):
        return "repository: expected owner/name as the git server shows it, such as cs101/mp1-ada, not an address"
    if repository != repository.strip() or "/" not in repository.strip("/"):
        return "repository: expected owner/name, such as cs101/mp1-ada, without blanks around it"
    return None

"""Extensions: later times of an assignment for one student, one group, or all students with a label. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from broadway.domain.bounds import Reason
from broadway.domain.clock import Moment

MAX_EXTENSIONS = 5000  # of an assignment, withdrawn and replaced ones too
MAX_DAYS = 1000
MAX_MINUTES = MAX_DAYS * 24 * 60

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Target(StrEnum):
    """The kind of an extension's target."""

    STUDENT = "student"
    GROUP = "group"
    LABEL = "label"


class ExtensionOrder(BaseModel):
    """An extension as staff order it. One without times withdraws the target's earlier one.

    ``due`` and ``closes`` replace the assignment's times; ``add_days`` and ``add_minutes`` are added to its due time.
    All ends after the due time move with it, and the last step of late credit reaches a later ``closes``. A time that
    is earlier than the assignment's has no effect. ``reason`` is for staff.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    target: Target
    name: Name
    due: Moment | None = None
    closes: Moment | None = None
    add_days: int = Field(default=0, ge=0, le=MAX_DAYS)
    add_minutes: int = Field(default=0, ge=0, le=MAX_MINUTES)
    reason: Reason = ""

    @property
    def is_empty(self) -> bool:
        """True if the extension has no times."""
        return not (self.due or self.closes or self.add_days or self.add_minutes)


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension with its author and its time. Extensions are added, and never changed or deleted."""

    id: str
    order: ExtensionOrder
    at: datetime
    by: str = ""


Latest = Mapping[tuple[Target, str], Extension]  # by target


@dataclass(frozen=True, slots=True)
class Member:
    """A student with all that decides on the rules that hold for this student alone.

    ``late_days_left`` are those of the course before this assignment, ``late_days_claimed`` those claimed for it.
    ``chosen`` is the id of the submission that the student has chosen.
    """

    student: str
    group: str | None = None
    labels: frozenset[str] = frozenset()
    late_days_left: int = 0
    late_days_claimed: int = 0
    chosen: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """The names below which the student's submissions are: the student's own and the group's."""
        return frozenset({self.student, self.group or self.student})

    def is_meant_by(self, order: ExtensionOrder) -> bool:
        """Return whether an extension is for this student."""
        match order.target:
            case Target.STUDENT:
                return order.name == self.student
            case Target.GROUP:
                return order.name == self.group
            case Target.LABEL:
                return order.name in self.labels


def by_target(extensions: Iterable[Extension]) -> Latest:
    """Return the latest extension for each target."""
    return {
        (each.order.target, each.order.name): each for each in sorted(extensions, key=lambda each: (each.at, each.id))
    }


def for_member(latest: Latest, member: Member) -> list[Extension]:
    """Return the extensions that hold for a student; the cost does not grow with those of others."""
    targets = [(Target.GROUP, member.group or ""), *((Target.LABEL, label) for label in sorted(member.labels))]
    found = [latest.get(target) for target in (*targets, (Target.STUDENT, member.student))]
    return [each for each in found if each and not each.order.is_empty]


def in_force(extensions: Iterable[Extension], member: Member) -> list[Extension]:
    """Return the extensions that hold for a student, of any: the latest for each target, in the order of targets."""
    return for_member(by_target(each for each in extensions if member.is_meant_by(each.order)), member)

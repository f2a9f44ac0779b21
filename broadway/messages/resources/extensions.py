"""Extensions of assignments, late days that students claim, and submissions that they choose."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from broadway.domain.bounds import MAX_ID
from broadway.domain.extension import ExtensionOrder
from broadway.messages.resources.base import Body, View
from broadway.messages.resources.standings import TimeView


class ExtensionView(View):
    """A stored extension, which never changes; one without times withdraws the earlier one of its target."""

    id: str
    order: ExtensionOrder
    at: datetime
    by: str = Field(description="name of the token that added it")
    is_in_force: bool = Field(description="false if it is a withdrawal, or a later one replaces it")
    warning: str = Field(default="", description="reason why it has no effect on any student, or empty")


class TimesView(View):
    """The times of a student."""

    due: TimeView | None
    closes: TimeView | None = Field(description="end of the last submissions, with the grace")


class ChangedTimesView(View):
    """The times of a student before and after an extension."""

    student: str
    group: str | None
    before: TimesView
    after: TimesView


class ExtensionPreview(View):
    """The students whom an extension would be for, with their times before and after it."""

    students: list[ChangedTimesView] = Field(description="at most 100")
    count: int = Field(description="number of all its students")
    warning: str = Field(description="reason why it would have no effect on any student, or empty")


class LateDayClaim(Body):
    """The late days that a student uses for an assignment."""

    days: int = Field(ge=0, le=100)


class Choice(Body):
    """The submission that counts for a student; null takes the choice back."""

    submission: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID)] | None

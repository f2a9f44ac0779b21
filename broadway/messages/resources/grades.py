"""Grades of assignments, versions of grade books, and adjustments."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import Field, PlainSerializer, StringConstraints

from broadway.domain.grade import GradeStatus
from broadway.domain.grade_book import MAX_NOTE, AdjustmentKind, MadeFrom
from broadway.domain.report import shown
from broadway.messages.resources.base import Body, View

ExactPoints = Annotated[Decimal, PlainSerializer(shown, return_type=str)]
Note = Annotated[str, StringConstraints(max_length=MAX_NOTE, strip_whitespace=True)]


class GradeLine(View):
    """A sentence of a grade's arithmetic, with the points after it."""

    text: str
    points: ExactPoints | None


class EntryForStaff(View):
    """The part of a grade that is for staff."""

    job: str | None = Field(description="the job whose result counts")
    generation: int | None
    execution: str | None
    adjustments: list[str] = Field(description="ids of the adjustments in force")
    unsettled: list[str] = Field(description="submissions that may change the grade when their results arrive")


class GradeView(View):
    """The grade of a student. Points are exact decimal numbers, as text."""

    student: str
    status: GradeStatus
    points: ExactPoints | None
    max: ExactPoints | None
    submission: str | None = Field(description="id of the submission that counts")
    job: str | None = Field(
        default=None,
        description="the job whose result counts; that of a regrade after its publication",
    )
    number: int | None = Field(description="its place among the student's submissions, from 1")
    submitted_at: datetime | None
    delay: float | None = Field(description="seconds since the due time, 0 if it is on time")
    days_late: int
    late_days: int = Field(description="late days that are charged")
    closes_at: datetime | None = Field(description="end of the student's last submissions")
    is_final: bool = Field(description="whether only reruns, extensions and adjustments can change it")
    lines: list[GradeLine]
    staff: EntryForStaff | None = Field(description="null for students")


class VersionView(View):
    """A version of a grade book that is or was published."""

    number: int
    based_on: int = Field(description="the version that it replaced; 0 for the first one")
    made_from: MadeFrom
    source: str = Field(description="the regrade, or the version whose entries an undo published again")
    students: int
    settings_version: int
    configs: list[str] = Field(description="digests of the configs by which the results were made")
    images: list[str] = Field(description="digests of the images by which the results were made")
    at: datetime
    by: str = Field(description="name of the token that published it")
    reason: str = Field(description="for staff")
    note: str = Field(description="for students")
    is_published: bool = Field(description="whether it is the one that students see now")


class GradesPage(View):
    """A page of the grades of an assignment, by student. ``next`` is the ``after`` of the next page."""

    published: int = Field(
        description="the version that students see, on which a publication is based; 0 before the first one"
    )
    version: VersionView | None = Field(description="null for the draft")
    at: datetime = Field(description="time of the draft, or of the version")
    settings_version: int
    students: int = Field(description="number of all students")
    statuses: dict[GradeStatus, int] = Field(description="number of students by status")
    unsettled: int = Field(description="students with a submission whose result is yet to come")
    items: list[GradeView]
    next: str | None


class StudentGrade(View):
    """A student's grade, in the draft or in a version."""

    published: int = Field(description="the version that students see; 0 before the first one")
    version: int | None = Field(description="null for the draft")
    at: datetime = Field(description="time of the draft, or of the version")
    note: str = Field(description="note of the version for students")
    grade: GradeView


class PublishBody(Body):
    """The publication of the draft as it is now."""

    based_on: Annotated[int, Field(ge=0, lt=10**9, description="the `published` of the grades that you looked at")]
    reason: Note = Field(default="", description="for staff")
    note: Note = Field(default="", description="for students")


class UndoBody(PublishBody):
    """The publication of an earlier version's grades as a new version."""

    to: Annotated[int, Field(ge=0, lt=10**9)] | None = Field(
        default=None, description="that version, 0 for no grades; by default the one before `based_on`"
    )


class AdjustmentView(View):
    """A change of staff to a student's grade."""

    id: str
    student: str
    kind: AdjustmentKind
    points: ExactPoints | None
    reason: str = Field(description="for the student, too")
    at: datetime
    by: str
    withdrawn_at: datetime | None
    withdrawn_by: str
    withdrawn_reason: str


class AdjustmentsView(View):
    """The adjustments that a request has made."""

    items: list[AdjustmentView]

"""Regrades, the differences that they make, and their orders."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from broadway.domain.course import MAX_STUDENTS
from broadway.domain.grade import GradeStatus
from broadway.domain.regrade import MAX_CHOSEN, MAX_NOTE, MIN_CONTROL
from broadway.domain.regrade_terms import Category, Publish, RegradeState, Select
from broadway.domain.report import Status
from broadway.domain.roster import Student
from broadway.messages.resources.base import Body, View

Identity = Annotated[str, Field(min_length=1, max_length=100)]
OVER = frozenset({RegradeState.READY, RegradeState.STALE, RegradeState.PUBLISHED, RegradeState.DISCARDED})


class RegradeStart(Body):
    """The order of a regrade: submissions that are graded again with the assignment's present config."""

    select: Literal["latest", "counting", "all", "chosen"] = Field(
        default="latest",
        description="`latest` and `all` of each student's submissions, those that are `counting`, or `chosen` ones",
    )
    submissions: Annotated[list[Identity], Field(max_length=MAX_CHOSEN)] = Field(
        default=[], description="the ids of the chosen submissions"
    )
    control_percent: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None,
        description=f"the share of submissions, at least {MIN_CONTROL}, that are graded with their old config, too: "
        "those whose result differs are unstable",
    )
    reason: str = Field(default="", max_length=MAX_NOTE, description="for staff")

    @model_validator(mode="after")
    def _chosen_with_names(self) -> Self:
        if (self.select == Select.CHOSEN.value) is not bool(self.submissions):
            raise ValueError("expected submissions with the select chosen, and only then")
        return self


class RegradePublish(Body):
    """The order to publish a regrade."""

    publish: Literal["all", "raise", "chosen"] = Field(
        description="`all` new grades, only those that `raise` a grade, or those of `chosen` students"
    )
    note: str = Field(min_length=1, max_length=MAX_NOTE, pattern=r"\S", description="for the students: the reason")
    students: Annotated[list[Student], Field(max_length=MAX_STUDENTS)] = Field(
        default=[], description="the chosen students"
    )
    keep_old: bool = Field(
        default=False, description="keep the old grades of students with whose submissions the infrastructure failed"
    )

    @model_validator(mode="after")
    def _chosen_with_names(self) -> Self:
        if (self.publish == Publish.CHOSEN.value) is not bool(self.students):
            raise ValueError("expected students with the publish chosen, and only then")
        return self


class RegradeSummary(View):
    """A regrade: submissions that are graded again beside all that students see."""

    id: str
    assignment: str
    state: RegradeState = Field(description="`stale`: the class has changed since it ran")
    select: Select
    control_percent: int | None
    reason: str
    config: str = Field(description="digest of the config with which it grades")
    created_at: datetime
    by: str
    submissions: int = Field(description="number of submissions, once it is planned")
    base: int = Field(description="published version that it is compared with; 0 stands for the draft")
    rounds: int = Field(description="number of plans: the first one, and one for each refresh")
    ready_at: datetime | None
    version: int | None = Field(description="version of the grade book as which it is published")
    published_at: datetime | None
    published_by: str
    note: str = Field(description="note to the students")
    discarded_at: datetime | None
    discarded_by: str

    @property
    def is_over(self) -> bool:
        """True if its jobs have ended."""
        return self.state in OVER


class FlipView(View):
    """A test whose result changed; null stands for a test that is not in the report."""

    test: str
    before: Status | None
    after: Status | None


class FlipGroupView(FlipView):
    """A change that students share, and the first of these students."""

    count: int
    students: list[str]
    text: str


class RegradeView(RegradeSummary):
    """A regrade with its progress and, once its jobs have ended, the difference that it makes.

    ``old`` digests are those of the configs and images by which the present grades were made.
    """

    jobs: int = Field(description="number of jobs, with those of the control group")
    done: int = Field(description="number of jobs in parts that have ended")
    counts: dict[Category, int] | None = Field(description="students by category, the worst first; null before the end")
    groups: list[FlipGroupView] = Field(description="tests that flipped, those of most students first")
    control: int = Field(description="number of submissions of the control group that were graded twice")
    unstable: list[str] = Field(description="submissions of the control group whose result differed")
    old_configs: list[str]
    new_configs: list[str]
    old_images: list[str]
    new_images: list[str]


class RegradedGrade(View):
    """A grade on one side of a comparison, with the execution whose result it has and the address of its log."""

    status: GradeStatus
    points: str | None
    max: str | None
    submission: str | None
    days_late: int
    late_days: int
    job: str | None
    attempt: str | None
    log: str | None = Field(description="path of the log")


class RegradeRow(View):
    """The difference for one student."""

    student: str
    category: Category
    old: RegradedGrade | None
    new: RegradedGrade | None
    flips: list[FlipView] = Field(description="tests whose result changed, at most 100")
    flips_count: int
    rescored: list[str] = Field(description="tests with the same result and another score, at most 100")
    rescored_count: int
    needs_run: bool = Field(description="true if a refresh grades the student again")
    is_unstable: bool | None = Field(description="null if no submission of the student is in the control group")

"""Submissions and their files."""

from datetime import datetime

from pydantic import Field

from broadway.domain.assignment_settings import MOST_FILES
from broadway.domain.files import MAX_PATH
from broadway.domain.job import JobState, Outcome
from broadway.domain.webhook import DeliveryState
from broadway.messages.resources.base import View

_WITHOUT_RUN = frozenset(
    {
        DeliveryState.REFUSED,
        DeliveryState.LIMITED,
        DeliveryState.SUPERSEDED,
        DeliveryState.UNMATCHED,
        DeliveryState.IGNORED,
    }
)


class FileView(View):
    """A file of a submission."""

    path: str = Field(max_length=MAX_PATH)
    size: int = Field(description="bytes", ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    is_program: bool = Field(description="true if the file is executable")


class SubmissionSummary(View):
    """A submission without its files."""

    id: str
    assignment: str
    student: str = Field(description="the student or the group, by its name in the roster")
    at: datetime = Field(description="time of its first receipt")
    by: str = Field(description="name of the token that handed it in")
    count: int = Field(description="number of its files")
    size: int = Field(description="bytes of its files together")


class RemovedSubmissions(View):
    """The number of submissions that were removed."""

    count: int


class SubmissionJob(View):
    """The job that grades a submission, as its student may see it."""

    id: str
    state: JobState
    outcome: Outcome | None
    finished_at: datetime | None
    score: float | None = Field(
        default=None, description="points of its report; null while the reader may not see them"
    )
    max_score: float | None = Field(default=None, description="points of the assignment, or those that its report has")


class SubmissionView(SubmissionSummary):
    """A submission: what one student or group handed in for an assignment at one time."""

    archive: str = Field(description="name of the archive that held the files, or empty")
    digest: str = Field(description="digest of the names, modes and contents of all files")
    files: list[FileView]
    state: DeliveryState | None = Field(
        description="decision about its grading; null while it waits for a run for the roster, or if it is too old"
    )
    reason: str = Field(description="reason for the decision, or empty")
    run_id: str | None = Field(description="run that grades it")
    job: SubmissionJob | None = Field(description="job of this run that grades it, once it is stored")

    @property
    def is_decided_against(self) -> bool:
        """True if no run grades it, by decision."""
        return self.state in _WITHOUT_RUN

    @property
    def is_over(self) -> bool:
        """True if its state changes no more by itself: it is graded, is not going to be, or waits for a person."""
        return bool(self.job and self.job.outcome) or self.state is None or self.is_decided_against


class JobFiles(View):
    """The files of a job's submission, for its grader."""

    submission: str = Field(max_length=100)
    files: list[FileView] = Field(max_length=MOST_FILES)

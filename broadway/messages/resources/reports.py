"""Reports of jobs."""

from pydantic import Field

from broadway.domain.report import Report
from broadway.messages.resources.base import View


class ReportFileView(View):
    """A results file: its path below ``/job``, and the hash and the number of its bytes."""

    path: str
    sha256: str
    size: int


class ReportView(View):
    """The report of a job's attempt, as its reader may see it.

    Points are decimal numbers as text, so that they are exact. Texts may come from students: escape them.
    """

    job: str
    attempt: str = Field(description="the id of the attempt; empty for jobs of the original")
    stage: int = Field(description="the index of the stage that reported, from 0")
    view: str = Field(description="staff or student")
    report: Report | None = Field(description="null if the results are missing or not valid")
    shows_log: bool = Field(description="whether a student may see the log of the stage")
    problem: str = Field(default="", description="the reason for which there is no report; for staff, with the file")
    warning: str = Field(default="", description="for staff: the file's maximum is not the assignment's")
    files: list[ReportFileView] = Field(default=[], description="the results files, for staff")

"""The identity of a start of a job, by which its outcome is found again."""

from typing import Protocol


class AboutJob(Protocol):
    """A value about one start of a job."""

    @property
    def job_id(self) -> str:
        """The job's id."""

    @property
    def generation(self) -> int:
        """The job's generation."""

    @property
    def attempt(self) -> int:
        """The number of the start within its generation."""

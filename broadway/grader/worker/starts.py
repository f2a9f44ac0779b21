"""Starts of jobs, by which outcomes are found again."""

from typing import Protocol


class AboutJob(Protocol):
    """A value about one start of a job."""

    @property
    def job_id(self) -> str:
        """The job."""

    @property
    def generation(self) -> int:
        """The job's generation."""

    @property
    def attempt(self) -> int:
        """The number of the start in its generation."""

"""Starts of jobs, by which outcomes are found again."""

from typing import Protocol


class AboutJob(Protocol):
    """A value about one start of a job."""

    @property
    def job_id(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def attempt(self) -> int: ...

"""A grader's check of itself: while it is broken, it takes no jobs, reports the reason, and retries after a pause."""

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded
from broadway.runtime.health import Health

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 600.0  # seconds; pauses double up to this
NEEDED = ("engine", "disk")  # parts without which no job can run; without the broker, no job arrives


@dataclass(slots=True)
class SelfCheck:
    """The state of a grader's engine, disk and latest jobs.

    Args:
        health: Checks the engine and the disk, among other parts.
        limit: The number of jobs in a row with an infrastructure error after which the grader pauses.
        pause: Seconds of the first pause. After a pause, one more error starts the next one, which is twice as long.
    """

    health: Health
    limit: int
    pause: float
    _failed: set[str] = field(default_factory=set)  # jobs with an infrastructure error since the last one without
    _pauses: int = 0
    _until: float = 0.0
    _last: str = ""

    @property
    def reason(self) -> str:
        """The reason for which the grader must take no job now; empty if it may."""
        for part in NEEDED:
            if self.health.is_unavailable(part):
                return f"{part}: {self.health.reason(part)}"
        if asyncio.get_running_loop().time() < self._until:
            return f"{len(self._failed)} jobs in a row met infrastructure errors, the last one: {self._last}"
        return ""

    async def note(self, job_id: str, graded: Graded) -> None:
        """Count a job's outcome. An error that is not retryable, such as a missing image, is not the grader's fault.

        A job that fails again counts once, since the job itself may break the engine. After an error, the engine and
        the disk are checked before this returns, so that no further job fails on them.
        """
        if graded.outcome is not Outcome.INFRASTRUCTURE_ERROR:
            self._failed.clear()
            self._pauses = 0
        elif graded.retryable:
            self._failed.add(job_id)
            self._last = graded.reason
            if len(self._failed) >= self.limit:
                seconds = min(self.pause * 2**self._pauses, LONGEST_PAUSE)
                self._pauses = min(self._pauses + 1, 10)
                self._until = asyncio.get_running_loop().time() + seconds
                log.error("taking no jobs for a while", seconds=seconds, jobs=len(self._failed), last=self._last)
            await self.health.check_parts(NEEDED)


async def check_disk(directory: Path, *, needed: float) -> None:
    """Make sure that a directory's disk has at least ``needed`` bytes of free space.

    Raises:
        OSError: It has less.
    """
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(f"{free / 2**20:.0f} MiB are free on the jobs' disk, {needed / 2**20:.0f} MiB are needed")

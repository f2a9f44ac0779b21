"""Whether this grader may take jobs. One that breaks takes itself out, says why, and tries again after a while."""

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded
from broadway.runtime.health import Health

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 600.0  # seconds; pauses double until then
NEEDED = ("engine", "disk")  # parts without which no job can run; without the broker none comes


@dataclass(slots=True)
class SelfCheck:
    """What this grader's own state allows.

    Args:
        health: Looks at the engine and the disk, among others.
        limit: Jobs in a row that end with an infrastructure error after which the grader pauses.
        pause: Seconds of the first pause. After it one more error is enough for the next, longer one.
    """

    health: Health
    limit: int
    pause: float
    _failed: set[str] = field(default_factory=set)  # jobs since the last one that went well
    _pauses: int = 0
    _until: float = 0.0
    _last: str = ""

    @property
    def reason(self) -> str:
        """Why no job is to be taken now; empty if there is no reason."""
        for part in NEEDED:
            if self.health.is_away(part):
                return f"{part}: {self.health.reason(part)}"
        if asyncio.get_running_loop().time() < self._until:
            return f"{len(self._failed)} jobs in a row met infrastructure errors, the last one: {self._last}"
        return ""

    async def note(self, job_id: str, graded: Graded) -> None:
        """Learn from what a job came to. A missing image or a bad entrypoint is not the grader's fault.

        A job that fails again counts once: it may be the job that the engine cannot bear. Whether the engine and the
        disk are there is looked at before this returns, so that no other job finds out.
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
            await self.health.ask(NEEDED)


async def check_disk(directory: Path, *, needed: float) -> None:
    """Make sure that a directory's disk has room for ``needed`` bytes.

    Raises:
        OSError: It has not.
    """
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(f"{free / 2**20:.0f} MiB are free where jobs work, {needed / 2**20:.0f} MiB are needed")

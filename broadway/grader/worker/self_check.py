"""A grader's check of itself: while it is broken, it takes no jobs, reports the reason, and retries after a pause.

A course must not be able to pause the graders of a pool, so errors that jobs of one course meet, or jobs with one
image, are no proof that the grader is broken: it is paused only if a container of its own fails, too.
"""

import asyncio
import shutil
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded
from broadway.grader.ports import ContainerError
from broadway.runtime.health import Health

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 600.0  # seconds; pauses double up to this
REMEMBERED = 1000  # jobs
NEEDED = ("engine", "disk")  # parts without which no job can run; without the broker, no job arrives


@dataclass(slots=True)
class SelfCheck:
    """The state of a grader's engine, disk and latest jobs.

    Args:
        health: Checks the engine and the disk, among other parts.
        try_out: Runs a container of the grader's own, or raises ContainerError.
        limit: The number of jobs in a row with an infrastructure error after which the grader pauses.
        pause: Seconds of the first pause. After a pause, one more error starts the next one, which is twice as long.
    """

    health: Health
    try_out: Callable[[], Awaitable[None]]
    limit: int
    pause: float
    # The courses and images of jobs with an infrastructure error since the last job without one, by job.
    _failed: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict)
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

    async def note(self, job_id: str, graded: Graded, *, course: str = "") -> None:
        """Count a job's outcome. An error of its image or its config, such as a failed pull, is not the grader's fault.

        A job that fails again counts once, since the job itself may break the engine. After an error, the engine and
        the disk are checked before this returns, so that no further job fails on them.

        Args:
            job_id: The job.
            graded: Its outcome.
            course: Its course; empty if the API did not name it.
        """
        if graded.outcome is not Outcome.INFRASTRUCTURE_ERROR:
            self._failed.clear()
            self._pauses = 0
        elif graded.may_be_of_grader:
            self._failed[job_id] = course, graded.image
            self._failed.move_to_end(job_id)
            if len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)
            if len(self._failed) >= self.limit and (cause := await self._own_cause(graded.reason)):
                self._pause(cause)
            await self.health.check_parts(NEEDED)

    def resume(self) -> None:
        """End the grader's own pause at once, by an operator's order; the engine and the disk must still answer."""
        self._failed.clear()
        self._pauses = 0
        self._until = 0.0

    async def _own_cause(self, last: str) -> str:
        """Return the reason for which this grader, not its jobs, is the cause of the errors; empty if it is not."""
        courses, images = ({each[part] for each in self._failed.values()} for part in (0, 1))
        if (len(courses) > 1 or courses == {""}) and len(images) > 1:
            return last
        try:
            await self.try_out()
        except ContainerError as error:
            return f"{error.phase}: {error}"
        log.warning(
            "jobs met infrastructure errors, but the grader's own container runs",
            jobs=len(self._failed),
            courses=sorted(courses)[:10],
            images=sorted(images)[:10],
            last=last,
        )
        return ""

    def _pause(self, cause: str) -> None:
        seconds = min(self.pause * 2**self._pauses, LONGEST_PAUSE)
        self._pauses = min(self._pauses + 1, 10)
        self._until = asyncio.get_running_loop().time() + seconds
        self._last = cause
        log.error("taking no jobs for a while", seconds=seconds, jobs=len(self._failed), last=cause)


async def check_disk(directory: Path, *, needed: float) -> None:
    """Make sure that a directory's disk has at least ``needed`` bytes of free space.

    Raises:
        OSError: It has less.
    """
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(f"{free / 2**20:.0f} MiB are free on the jobs' disk, {needed / 2**20:.0f} MiB are needed")

"""Pages of a run's jobs. A page costs the same wherever it is in the run, and however many jobs the run has."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol

from broadway.domain.job import Job, Phase
from broadway.domain.pages import CursorError, Slice, sliced
from broadway.domain.run import Run, job_id
from broadway.lifecycle.stores import JobsById, JobsOfRuns

SEARCHED = 500  # jobs read at a time, to find those that a filter admits
_NO_SUCH_JOB = "after: this run has no such job"

Admits = Callable[[Job], bool]


class PagedJobs(JobsById, JobsOfRuns, Protocol):
    """Jobs by run, and by id."""


@dataclass(frozen=True, slots=True)
class JobPages:
    """Reads pages of the jobs of runs, in the order of phases and of the roster.

    The ids of a run's jobs follow from its number of students, so a page is read by its jobs' ids. A run of an earlier
    version, whose number of students is not stored, is read as a whole.
    """

    jobs: PagedJobs

    async def page(self, run: Run, *, after: str | None, limit: int, admits: Admits | None) -> Slice[Job]:
        """Return the next jobs after the one with the id ``after`` that ``admits`` accepts; without it, all jobs.

        Raises:
            CursorError: ``after`` is not the id of a job of the run.
        """
        if run.students is None:
            found = [job for job in await self._rest(run.id, after) if admits is None or admits(job)]
        else:
            found = await self._next(run, run.students, after=after, wanted=limit + 1, admits=admits)
        return sliced(found, limit, lambda job: job.id)

    async def _rest(self, run_id: str, after: str | None) -> list[Job]:
        """Return all jobs of a run after one."""
        jobs = await self.jobs.of_run(run_id)
        if after is None:
            return jobs
        ids = [job.id for job in jobs]
        if after not in ids:
            raise CursorError(_NO_SUCH_JOB)
        return jobs[ids.index(after) + 1 :]

    async def _next(
        self, run: Run, students: int, *, after: str | None, wanted: int, admits: Admits | None
    ) -> list[Job]:
        last = await self._job(run.id, after) if after else None
        found: list[Job] = []
        for phase in list(Phase)[list(Phase).index(last.phase) if last else 0 :]:
            start = last.index + 1 if last and last.phase is phase else 0
            number = students if phase is Phase.STUDENTS else 1
            ids = (job_id(run.id, phase, index) for index in islice(count(start), max(0, number - start)))
            while len(found) < wanted and (some := list(islice(ids, SEARCHED if admits else wanted - len(found)))):
                stored = await self.jobs.get_many(some)
                found += [job for each in some if (job := stored.get(each)) and (admits is None or admits(job))]
                if not stored:  # the jobs of a phase are stored in order
                    break
        return found[:wanted]

    async def _job(self, run_id: str, identity: str) -> Job:
        job = (await self.jobs.get_many([identity])).get(identity)
        if job is None or job.run_id != run_id:
            raise CursorError(_NO_SUCH_JOB)
        return job

"""A student's jobs in the runs for the roster, which no upload or push has started."""

from collections.abc import Collection
from dataclasses import dataclass

from broadway.domain.job import Job, Phase
from broadway.domain.run import job_id
from broadway.domain.submission import student_of
from broadway.ingest.reads.stores import JobQueries, RunQueries
from broadway.lifecycle.stores import RecentRosters

LOOKED_INTO = 20  # latest runs of an assignment


@dataclass(frozen=True, slots=True)
class ClassJobs:
    """Reads of the jobs of students in runs for the roster.

    The id of a job follows from the place in the roster. A run for an earlier roster, with the student at another
    place, is not found.
    """

    runs: RunQueries
    jobs: JobQueries
    rosters: RecentRosters

    async def of_student(self, course: str, assignment: str, names: Collection[str]) -> list[Job]:
        """Return the jobs of a student or a group in the latest runs, latest first, without their results."""
        roster = await self.rosters.recent(course, assignment)
        places = [place for place, entry in enumerate(roster.students if roster else ()) if entry.student in names]
        if not places:
            return []
        runs = await self.runs.of_assignments([f"{course}/{assignment}"], before=None, limit=LOOKED_INTO)
        ids = [job_id(run.id, Phase.STUDENTS, place) for run in runs if not run.trigger for place in places]
        jobs, stages = await self.jobs.get_many(ids), await self.jobs.stages(ids)
        own = [job for identity, job in jobs.items() if student_of(stages.get(identity, [])) in names]
        return sorted(own, key=lambda job: job.queued_at, reverse=True)

"""The facts behind events: an event that was written before its fact counts once the fact is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from broadway.domain.callback import CallbackEvent, CallbackType
from broadway.domain.callback_payload import job_data, run_data, with_student
from broadway.domain.run import Run
from broadway.notifier.ports import EndedJobs, EndedRuns


class Missing(Enum):
    """The reasons why an event has no data."""

    NOT_YET = auto()  # its fact is not stored, and may be later
    NEVER = auto()  # its fact cannot be stored any more, or is no business of endpoints


@dataclass(frozen=True, slots=True)
class Facts:
    """The stored facts about jobs and runs."""

    jobs: EndedJobs
    runs: EndedRuns

    async def data(self, event: CallbackEvent) -> Mapping[str, Any] | Missing:
        """Return the data of an event whose fact is stored, or the reason for its absence."""
        if event.is_sure:
            return event.data
        if event.type is CallbackType.JOB_FINISHED:
            return await self._of_job(str(event.data["job"]), int(event.data["generation"]))
        return await self._of_run(str(event.data["run"]), int(event.data["round"]))

    async def _of_job(self, job_id: str, generation: int) -> Mapping[str, Any] | Missing:
        job = (await self.jobs.get_many([job_id])).get(job_id)
        if job is None:
            return Missing.NEVER
        settlement = await self.jobs.settlement(job_id, generation)
        if settlement is None:
            return Missing.NOT_YET if job.generation == generation else Missing.NEVER
        run = await self.runs.summary(job.run_id)
        if _is_of_regrade(run):
            return Missing.NEVER
        return with_student(job_data(job, settlement), job, run)

    async def _of_run(self, run_id: str, round_: int) -> Mapping[str, Any] | Missing:
        found = (await self.runs.last_ends([run_id])).get(run_id)
        if found is None:  # a run that ends at once is stored after its event
            return Missing.NOT_YET
        run, last = found
        if _is_of_regrade(run):
            return Missing.NEVER
        if last >= round_:
            return run_data(run, round_)
        return Missing.NOT_YET if run.round == round_ else Missing.NEVER


def _is_of_regrade(run: Run | None) -> bool:
    """Return whether a run is a part of a regrade, which is beside all that a course sees until it is published."""
    return bool(getattr(run, "regrade", None))

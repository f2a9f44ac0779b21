"""The facts behind events: an event that was written before its fact counts once the fact is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from broadway.domain.callback import CallbackEvent, CallbackType
from broadway.domain.callback_payload import job_data, run_data, with_student
from broadway.domain.job import Job
from broadway.domain.run import Run
from broadway.domain.settlement import Settlement, key_of
from broadway.notifier.ports import EndedJobs, EndedRuns


class Missing(Enum):
    """The reasons why an event has no data."""

    NOT_YET = auto()  # its fact is not stored, and may be later
    NEVER = auto()  # its fact cannot be stored any more, or is no business of endpoints


@dataclass(frozen=True, slots=True)
class Found:
    """The stored jobs, outcomes and runs that some events are about; each run with its last round that has ended."""

    jobs: Mapping[str, Job]
    settlements: Mapping[str, Settlement]
    runs: Mapping[str, tuple[Run, int]]

    def data(self, event: CallbackEvent) -> Mapping[str, Any] | Missing:
        """Return the data of an event whose fact is stored, or the reason for its absence."""
        if event.is_sure:
            return event.data
        if event.type is CallbackType.JOB_FINISHED:
            return self._of_job(str(event.data["job"]), int(event.data["generation"]))
        return self._of_run(str(event.data["run"]), int(event.data["round"]))

    def _of_job(self, job_id: str, generation: int) -> Mapping[str, Any] | Missing:
        job = self.jobs.get(job_id)
        if job is None:
            return Missing.NEVER
        run, _ = self.runs.get(job.run_id, (None, 0))
        if _is_of_regrade(run):
            return Missing.NEVER
        settlement = self.settlements.get(key_of(job_id, generation))
        if settlement is None:
            return Missing.NOT_YET if job.generation == generation else Missing.NEVER
        return with_student(job_data(job, settlement), job, run)

    def _of_run(self, run_id: str, round_: int) -> Mapping[str, Any] | Missing:
        if run_id not in self.runs:  # a run that ends at once is stored after its event
            return Missing.NOT_YET
        run, last = self.runs[run_id]
        if _is_of_regrade(run):
            return Missing.NEVER
        if last >= round_:
            return run_data(run, round_)
        return Missing.NOT_YET if run.round == round_ else Missing.NEVER


@dataclass(frozen=True, slots=True)
class Facts:
    """The stored facts about jobs and runs."""

    jobs: EndedJobs
    runs: EndedRuns

    async def about(self, events: Sequence[CallbackEvent]) -> Found:
        """Read the facts that events are about.

        Raises:
            StoreError: The store is unavailable.
        """
        unsure = [event.data for event in events if not event.is_sure]
        ended = [(str(data["job"]), int(data["generation"])) for data in unsure if "job" in data]
        # Outcomes are read after the jobs: before a job's generation changes, the outcome of the present one is stored.
        jobs = await self.jobs.get_many([job_id for job_id, _ in ended]) if ended else {}
        settlements = await self.jobs.settlements([key_of(*each) for each in ended]) if ended else {}
        run_ids = list(dict.fromkeys(str(data["run"]) for data in unsure))
        return Found(jobs, settlements, await self.runs.last_ends(run_ids) if run_ids else {})


def _is_of_regrade(run: Run | None) -> bool:
    """Return whether a run is a part of a regrade, which is beside all that a course sees until it is published."""
    return run is not None and bool(run.regrade)

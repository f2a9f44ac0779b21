"""Retries of dead letters: the jobs that ended by them run again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from pydantic import ValidationError

from broadway.domain.job import FaultPhase, Job, Outcome
from broadway.domain.letter import Letter
from broadway.domain.run import NothingToDoError
from broadway.ingest.commands.limits import NoConfigError, RejectedError
from broadway.ingest.commands.rerun import Reruns
from broadway.lifecycle.orders import OrderError
from broadway.lifecycle.stores import JobsById, RunSummaries
from broadway.messages.batches import JobsFinished
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

NO_SUCH_LETTER = "no dead letter of that id is kept"
_NAMES_OF_JOB = 3  # course/run/job, the subject of a message about a job


class NoLetterError(LookupError):
    """No dead letter of that id is kept."""


class NoJobsError(Exception):
    """The dead letter is about no job, so that there is nothing to run again."""


class Letters(Protocol):
    """Stored dead letters."""

    async def get(self, letter_id: str) -> Letter | None:
        """Return a dead letter, or None."""

    async def discard(self, letter_id: str) -> bool:
        """Remove a dead letter; return False if it does not exist."""


@dataclass(slots=True)
class Retried:
    """The result of a retry. The letter is removed unless a run refused.

    Args:
        letter: The letter's id.
        jobs: Ids of the jobs that run again.
        unchanged: Ids of the other jobs that the letter is about: they did not end by it, or run again already.
        refused: The reasons of the runs that cannot run their jobs again now.
    """

    letter: str
    jobs: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LetterRetries:
    """Runs the jobs again that ended by dead letters, each once per letter."""

    letters: Letters
    jobs: JobsById
    runs: RunSummaries
    reruns: Reruns

    async def retry(self, letter_id: str) -> Retried:
        """Run the jobs of a letter again, and remove it.

        A job that ended otherwise, or that runs again since, stays as it is. So a repetition changes nothing.

        Raises:
            NoLetterError: There is no such letter.
            NoJobsError: The letter is about no job.
        """
        letter = await self.letters.get(letter_id)
        if letter is None:
            raise NoLetterError(NO_SUCH_LETTER)
        named = await self.jobs.get_many(jobs_of(letter))
        if not named:
            raise NoJobsError(
                "the dead letter is about no job that is kept; the effects of other lost messages are repaired: "
                f"read its reason, then remove it with `broadway dead discard {letter_id}`"
            )
        retried = Retried(letter_id)
        by_run: dict[str, list[str]] = {}
        for job in named.values():
            if has_ended_by_letter(job):
                by_run.setdefault(job.run_id, []).append(job.id)
            else:
                retried.unchanged.append(job.id)
        for run_id, job_ids in by_run.items():
            await self._run_again(run_id, job_ids, retried)
        await reach(Point.LETTER_RERUN)
        if not retried.refused:
            await self.letters.discard(letter_id)
        log.info("dead letter retried", letter=letter_id, jobs=len(retried.jobs), refused=len(retried.refused))
        return retried

    async def _run_again(self, run_id: str, job_ids: Sequence[str], retried: Retried) -> None:
        run = await self.runs.summary(run_id)
        if run is None:
            retried.unchanged += job_ids
            return
        try:
            await self.reruns.start(run, only=job_ids, failed=True)  # an open job runs again already
        except NothingToDoError:
            retried.unchanged += job_ids
        except (OrderError, RejectedError, NoConfigError) as error:
            retried.refused.append(f"run {run_id}: {error}")
        else:
            retried.jobs += job_ids


def has_ended_by_letter(job: Job) -> bool:
    """Return whether a job's outcome is that of a dead letter."""
    return job.outcome is Outcome.INFRASTRUCTURE_ERROR and job.fault_phase is FaultPhase.REPORT


def jobs_of(letter: Letter) -> list[str]:
    """Return the ids of the jobs that a letter is about: those of a batch of outcomes, or the one of its subject."""
    try:
        return list(dict.fromkeys(part.job_id for part in JobsFinished.model_validate_json(letter.body).parts))
    except ValidationError:
        names = letter.subject.split("/")
        return [names[-1]] if len(names) == _NAMES_OF_JOB else []

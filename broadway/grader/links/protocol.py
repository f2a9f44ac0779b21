"""The part of the original's protocols that polling and WebSocket graders share."""

import asyncio
import os
from collections.abc import AsyncIterable
from dataclasses import dataclass
from secrets import token_hex

import stamina
import structlog

from broadway import __version__
from broadway.domain.abilities import ABILITIES
from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded
from broadway.grader.worker.availability import CHECK_INTERVAL
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.self_check import SelfCheck
from broadway.grader.worker.spool import Spool
from broadway.grader.worker.submission_files import Claim, SubmissionFiles
from broadway.messages.http import MAX_REASON, OUR_AGENT, JobMessage, JobResult, Logs, Verdict
from broadway.service import Stop, unless_stopped
from broadway.settings.grader import GraderSettings

log = structlog.get_logger(__name__)

AGENT = f"{OUR_AGENT}{__version__}"  # shows our server that this grader understands its extensions of the protocols
DEFAULT_HEARTBEAT = 10  # seconds between heartbeats, if the server sets no interval
LONGEST_PAUSE = 10.0  # seconds between attempts to reach a server
LONGEST_SILENCE = 4  # heartbeat intervals; a server of ours has noticed by then that a grader has gone


def result_of(job_id: str, graded: Graded) -> JobResult:
    """Return the result of a job in the protocols' form."""
    return JobResult(
        grading_job_id=job_id,
        success=graded.outcome is Outcome.SUCCEEDED,
        results=[each.entry() for each in graded.results],
        logs=Logs(stdout=graded.stdout, stderr=graded.stderr),
        verdict=Verdict(
            outcome=graded.outcome,
            reason=graded.reason[:MAX_REASON],
            fault_phase=graded.fault_phase,
            retryable=graded.retryable,
        ),
    )


@dataclass(frozen=True, slots=True)
class HttpRunner:
    """Runs jobs and spools their results, while the self-check of its grader passes."""

    runner: Runner
    spool: Spool[JobResult]
    self_check: SelfCheck
    files: SubmissionFiles

    async def ready(self, stop: Stop) -> None:
        """Return once this grader may take a job, or ``stop`` is set."""
        logged = ""
        while (reason := self.self_check.reason) and not stop.is_set():
            if reason != logged:
                log.warning("taking no jobs", reason=reason)
                logged = reason
            await unless_stopped(asyncio.sleep(CHECK_INTERVAL), stop)
        if logged and not stop.is_set():
            log.info("taking jobs again")

    async def work(self, job: JobMessage) -> JobResult:
        """Run a job, spool its result if the disk allows, and return it. If cancelled, leave nothing behind."""
        with structlog.contextvars.bound_contextvars(job=job.grading_job_id):
            log.info("running")
            execution_id = token_hex(12)
            structlog.contextvars.bind_contextvars(execution=execution_id)
            claim = Claim(job.grading_job_id)
            preparation, sending = self.files.preparation(claim, job.stages), self.files.sending(claim)
            graded = await self.runner.run(job.grading_job_id, execution_id, job.stages, preparation, sending)
            await self.self_check.note(job.grading_job_id, graded, course=job.course)
            result = result_of(job.grading_job_id, graded)
            try:
                await self.spool.put(result)
            except OSError as error:  # the result is reported all the same
                log.warning("result not spooled", reason=str(error))
            log.info("finished", outcome=graded.outcome.value, reason=graded.reason)
            return result


def retry_forever(on: type[Exception], *, longest: float = LONGEST_PAUSE) -> AsyncIterable[stamina.Attempt]:
    """Yield attempts without end, with growing random pauses, so that graders do not retry in step."""
    first = min(0.5, longest)
    return stamina.retry_context(on=on, attempts=None, timeout=None, wait_initial=first, wait_max=longest)


def grader_parameters(settings: GraderSettings) -> dict[str, str]:
    """Return the request parameters that our own server takes beyond the original's protocol."""
    return {"pool": settings.pool, "runtime": settings.reported_runtime, "abilities": ",".join(ABILITIES)}


def claim_within(interval: float) -> float:
    """Return the seconds for which a server of ours may refuse a grader's id because of an earlier process."""
    return LONGEST_SILENCE * (interval or DEFAULT_HEARTBEAT)


def hostname() -> str:
    return os.uname().nodename

"""`/jobs/…/log`: the stored log of a job, and the live one of a job that runs, for staff and for its student."""

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.job import Job
from broadway.domain.json_bodies import InvalidBodyError
from broadway.domain.visibility import Role, logs_seen
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import principal_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.log_streams import log_stream
from broadway.ingest.http.rights import Auth
from broadway.ingest.http.scope import LOG_NOT_FOUND, own_job
from broadway.ingest.live.log_ring import Cursor, Position
from broadway.ingest.reads.log_lines import log_lines
from broadway.ingest.v2.attempts import AttemptQuery
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.reports import demand_readable
from broadway.messages.resources.jobs import LogView

AFTER = r"^\d{1,6}-\d{1,3}-\d{1,15}$"


class StreamQuery(BaseModel):
    """The query of a live log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: str | None = Field(
        default=None,
        pattern=AFTER,
        description="the id of the last event that the client has, as `Last-Event-ID`: `<attempt>-<stage>-<line>`",
    )


@operation(LogView, query=AttemptQuery, auth=(Auth.COURSE, Auth.STUDENT), operation_id="jobs_describe_log")
async def describe(request: Request, deps: Deps) -> Response:
    """Get the log of a job's attempt by line, with the stage and the stream of each line.

    The logs of all attempts are kept, also when the job runs again. Students get the lines of their untrusted stages,
    and those of a stage whose report shows its log to them; no messages of the grader.
    """
    job = await own_job(request, deps, missing=404)
    student = await demand_readable(request, deps, job)
    attempt = query_of(request, AttemptQuery).attempt
    reads = deps.reads.jobs
    kept = await (reads.log(job) if attempt is None else reads.log_of_attempt(job, attempt))
    if kept is None:
        removed_at = await deps.reads.removed.log_removed_at(job.id, job.generation)
        text = f"the log of this job was deleted by retention on {removed_at:%Y-%m-%d}" if removed_at else LOG_NOT_FOUND
        raise Refused(404, text)
    lines, error = log_lines(kept.stdout, kept.streams), kept.stderr
    if _role(request) is Role.STUDENT:
        seen = await _seen(deps, job, attempt, principal_of(request).student or student or "")
        lines, error = [line for line in lines if line.stage in seen], ""
    return answered(LogView(job=job.id, attempt=attempt or job.execution_id, lines=lines, error=error))


@operation(
    None,
    query=StreamQuery,
    auth=(Auth.COURSE, Auth.STUDENT),
    headers={"Last-Event-ID": "the id of the last event that the client has"},
)
async def stream(request: Request, deps: Deps) -> Response:
    """Follow the log of a running job, as server-sent events, until the job has ended.

    `queue` has the place of a job that waits. `lines` has consecutive lines of one stage, with the number of the first
    one; `gap`, that lines are missing before the next ones (`lines` is their number, or null); `stage` and `attempt`,
    that another one begins; `end`, the job's outcome: the stored log is complete then. An attempt with `live: false`
    has a stored log only. Students get the lines of their untrusted stages.
    """
    job = await own_job(request, deps, missing=404)
    await demand_readable(request, deps, job)
    last = query_of(request, StreamQuery).after or request.headers.get("last-event-id") or str(Position())
    position = Position.read(last)
    if position is None:
        raise InvalidBodyError(
            "Last-Event-ID: expected <attempt>-<stage>-<line>, as in the ids of this stream's events"
        )
    if _role(request) is Role.STAFF:
        return log_stream(deps, job, Cursor(position))
    seen = logs_seen((await deps.reads.jobs.with_stages(job)).stages)
    return log_stream(deps, job, Cursor(position, seen.__contains__))


def _role(request: Request) -> Role:
    return Role.STUDENT if principal_of(request).kind is Kind.STUDENT else Role.STAFF


async def _seen(deps: Deps, job: Job, attempt: str | None, student: str) -> frozenset[int]:
    """Return the stages of a job whose stored log its student may see."""
    stages = (await deps.reads.jobs.with_stages(job)).stages
    standing = await deps.reads.standings.of_report(job.course, job.assignment, student)
    shown = await deps.reads.reports.shown(job, attempt, Role.STUDENT, standing)
    return logs_seen(stages, shown.log_stage if shown else None)

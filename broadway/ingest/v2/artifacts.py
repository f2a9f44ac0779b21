"""`/artifacts`: the files that a job's stages leave for staff, and their way from the grader."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.artifacts import MAX_COUNT, MAX_SIZE, LeftOut, Manifest
from broadway.domain.job import Job
from broadway.domain.json_bodies import InvalidBodyError, parse
from broadway.ingest.commands.artifacts import GivenArtifact, GivenArtifacts
from broadway.ingest.commands.upload import GivenFile
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import grader_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import stored_file
from broadway.ingest.http.rights import Auth
from broadway.ingest.http.scope import own_job
from broadway.ingest.http.uploads import uploaded
from broadway.ingest.v2.attempts import AttemptId
from broadway.ingest.v2.job_files import TICKET
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.views.artifacts import artifacts_view
from broadway.messages.http import TICKET_HEADER
from broadway.messages.resources.artifacts import ArtifactsView, SentArtifacts, StoredArtifacts

NOT_RECEIVED = "this grader has no such job"
NO_ATTEMPT = "this job has no such attempt"
NO_ARTIFACT = "this attempt of the job has no such artifact"
MAX_MANIFEST = 1024 * 1024  # bytes of a form's first part


class SentQuery(BaseModel):
    """The query with which a grader sends artifacts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempt: AttemptId | None = Field(
        default=None,
        description="the execution's id; a grader behind the gateway need not know it",
    )


class ArtifactsQuery(BaseModel):
    """The query of a job's artifacts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempt: AttemptId | None = Field(
        default=None,
        description="the id of an attempt, as in the job's `executions`; without it, the last attempt of the job",
    )


@operation(
    StoredArtifacts,
    status=201,
    also={200: StoredArtifacts},
    auth=Auth.GRADER,
    query=SentQuery,
    refusals=(400, 403, 408, 413, 415, 422),
    headers={TICKET_HEADER: TICKET},
)
async def create(request: Request, deps: Deps) -> Response:
    """Store the artifacts of an execution of a job that this grader has received, before its outcome.

    The body is a form: its first file is a JSON document with their paths, the others are their contents in the same
    order. 200: they were stored before.
    """
    grader = grader_of(request)
    if grader is None:
        raise Refused(404, NOT_RECEIVED)
    grader.demand_admitted()
    job_id, ticket = request.path_params["job_id"], request.headers.get(TICKET_HEADER, "")
    job = await deps.reads.job_files.received(grader, job_id, ticket)
    named = query_of(request, SentQuery).attempt
    execution = (named if ticket else job.execution_id) if job else None
    if job is None or execution is None:
        raise Refused(404, NOT_RECEIVED)
    directory = deps.settings.http.spool_dir
    async with uploaded(request, directory, limit=MAX_SIZE + MAX_MANIFEST, files=MAX_COUNT + 1) as files:
        is_new = await deps.artifacts.keep(job, _given(execution, grader.id, files))
    view = StoredArtifacts(job=job.id, attempt=execution, count=len(files) - 1)
    return answered(view, 201 if is_new else 200)


def _given(execution: str, grader: str, files: Sequence[GivenFile]) -> GivenArtifacts:
    """Return the artifacts in a form.

    Raises:
        InvalidBodyError: The first part is no list of paths, or not of as many as there are contents.
    """
    first, *contents = files
    if first.size > MAX_MANIFEST or sum(each.size for each in contents) > MAX_SIZE:
        raise InvalidBodyError(f"the artifacts of a job may have {MAX_SIZE} bytes")
    sent = parse(first.read(0, first.size), SentArtifacts)
    if len(sent.files) != len(contents):
        raise InvalidBodyError(f"files: {len(sent.files)} paths for {len(contents)} contents")
    pairs = zip(sent.files, contents, strict=True)
    return GivenArtifacts(
        execution,
        grader,
        [GivenArtifact(each.path, each.stage, content) for each, content in pairs],
        [LeftOut(each.path, each.reason) for each in sent.left_out],
        sent.left_out_more,
    )


@operation(ArtifactsView, query=ArtifactsQuery)
async def show(request: Request, deps: Deps) -> Response:
    """List the artifacts of a job's attempt, and the files that were left out."""
    job = await own_job(request, deps, missing=404)
    attempt, manifest = await _of_attempt(request, deps, job)
    return answered(artifacts_view(job.id, attempt, manifest))


@operation(None, query=ArtifactsQuery, refusals=(416,))
async def download(request: Request, deps: Deps) -> Response:
    """Download an artifact of a job's attempt; ranges and entity tags are supported."""
    job = await own_job(request, deps, missing=404)
    _, manifest = await _of_attempt(request, deps, job)
    file = manifest.file(request.path_params["path"]) if manifest else None
    if file is None:
        raise Refused(404, NO_ARTIFACT)
    name = file.path.rpartition("/")[2]
    return await stored_file(request, deps, name=name, size=file.size, sha256=file.sha256)


async def _of_attempt(request: Request, deps: Deps, job: Job) -> tuple[str | None, Manifest | None]:
    """Return the attempt that a request is about, and its artifacts.

    Raises:
        Refused: 404, the job has no such attempt.
    """
    named = query_of(request, ArtifactsQuery).attempt
    ids = [attempt.execution_id for attempt in job.attempts]
    if named is not None and named not in ids:
        raise Refused(404, NO_ATTEMPT)
    attempt = named or job.execution_id or (ids[-1] if ids else None)
    return attempt, await deps.reads.artifacts.of_attempt(job, attempt) if attempt else None

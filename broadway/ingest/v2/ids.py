"""`/ids`: the ids of runs and jobs by their beginnings."""

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import READERS
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.messages.resources.ids import MIN_PREFIX, IdsView

CANDIDATES = 10  # of each kind; enough to see that a beginning is ambiguous


class IdQuery(BaseModel):
    """The query for ids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = Field(
        pattern="^[0-9a-f]*$", min_length=MIN_PREFIX, max_length=24, description="the first digits of an id"
    )


@operation(IdsView, query=IdQuery, auth=READERS)
async def find(request: Request, deps: Deps) -> Response:
    """Find the runs and jobs of a course whose ids begin with the given digits: ten of each at most."""
    course = course_of(request)
    prefix, ids = query_of(request, IdQuery).prefix, deps.reads.ids
    runs = await ids.of_runs(course.id, prefix, limit=CANDIDATES)
    return answered(IdsView(runs=runs, jobs=await ids.of_jobs(course.id, prefix, limit=CANDIDATES)))

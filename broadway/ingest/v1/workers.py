"""`/worker/…/all`: the graders of all courses."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.grader import Grader
from broadway.ingest.http.answers import Refused, success
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import STAFF, Load, takes


@takes(*STAFF, load=Load.LARGE)
async def list_workers(request: Request, deps: Deps) -> Response:
    """Return all graders that have ever registered; all courses share them."""
    scope = request.path_params["scope"]
    if scope != "all":
        raise Refused(404, f"scope {scope} has not been implemented yet")
    return success({"worker_nodes": [_worker(grader) for grader in await deps.reads.graders.all()]})


def _worker(grader: Grader) -> dict[str, Any]:
    return {
        "hostname": grader.hostname,
        "jobs_processed": grader.jobs_processed,
        "busy": bool(grader.running),
        "alive": grader.alive,
    }

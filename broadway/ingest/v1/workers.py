"""`/worker/…/all`: the graders of all courses."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.answers import Refused, success
from broadway.ingest.http.auth import authorize
from broadway.ingest.http.deps import Deps


async def list_workers(request: Request, deps: Deps) -> Response:
    """Every grader that ever registered; graders are shared by all courses."""
    await authorize(request, deps.courses)
    scope = request.path_params["scope"]
    if scope != "all":
        raise Refused(404, f"scope {scope} has not been implemented yet")
    return success({"worker_nodes": [_worker(document) for document in await deps.store.workers.all()]})


def _worker(document: dict[str, Any]) -> dict[str, Any]:
    alive = bool(document.get("alive"))
    return {
        "hostname": document.get("worker_hostname", ""),
        "jobs_processed": document.get("jobs_processed", 0),
        "busy": alive and bool(document.get("running_job_ids") or document.get("running_job_id")),
        "alive": alive,
    }

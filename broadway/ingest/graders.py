"""`/worker` and `/graders`: who grades, and how a grader learns where the broker is."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broadway.ingest.auth import authorize, authorize_cluster
from broadway.ingest.payload import read
from broadway.ingest.responses import CORS, Refused, success

if TYPE_CHECKING:
    from broadway.ingest.app import Deps


class JoinRequest(BaseModel):
    """What a grader says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    hostname: str


async def list_workers(request: Request, deps: "Deps") -> Response:
    """Every grader that ever registered; graders are shared by all courses."""
    await authorize(request, deps.store.courses)
    scope = request.path_params["scope"]
    if scope != "all":
        raise Refused(404, f"scope {scope} has not been implemented yet")
    return success({"worker_nodes": [_worker(document) for document in await deps.store.workers.all()]})


async def join(request: Request, deps: "Deps") -> Response:
    """Tell a grader how often to say that it lives, and where the broker is, if it may know."""
    authorize_cluster(request, deps.cluster_token)
    await read(request, JoinRequest, limit=deps.settings.max_body_size)
    broker = deps.settings.grader_amqp_url or deps.settings.amqp_url
    body = {
        "heartbeat_interval": deps.settings.heartbeat_interval,
        "amqp_url": broker.get_secret_value() if deps.settings.offer_amqp else None,
    }
    return JSONResponse(body, headers={**CORS, "Cache-Control": "no-store"})


def _worker(document: dict[str, Any]) -> dict[str, Any]:
    alive = bool(document.get("alive"))
    return {
        "hostname": document.get("worker_hostname", ""),
        "jobs_processed": document.get("jobs_processed", 0),
        "busy": alive and bool(document.get("running_job_ids") or document.get("running_job_id")),
        "alive": alive,
    }

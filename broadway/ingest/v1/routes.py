"""The routes of v1."""

from functools import partial

from starlette.routing import BaseRoute, WebSocketRoute

from broadway.ingest.http import endpoint
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.event_stream import HEADERS
from broadway.ingest.v1 import assignments, jobs, polling, runs, sockets, stream, workers


def routes(deps: Deps) -> list[BaseRoute]:
    """Return the routes of v1, which clients and graders of the original use."""
    route = partial(endpoint.route, deps)
    v1 = "/api/v1"
    return [
        route(f"{v1}/grading_config/{{course:id}}/{{assignment:id}}", GET=assignments.show, POST=assignments.register),
        route(f"{v1}/grading_run/{{course:id}}/{{assignment:id}}", POST=runs.start),
        route(f"{v1}/grading_run_status/{{course:id}}/{{run_id:id}}", GET=runs.status),
        route(f"{v1}/grading_run_env/{{course:id}}/{{run_id:id}}", GET=runs.environments),
        route(f"{v1}/grading_job_log/{{course:id}}/{{job_id:id}}", GET=jobs.read_log),
        route(f"{v1}/queue/{{course:id}}/length", GET=jobs.queue_length),
        route(f"{v1}/queue/{{course:id}}/{{job_id:id}}/position", GET=jobs.queue_position),
        route(f"{v1}/stream/{{course:id}}/{{job_id:id}}", HEADERS, GET=stream.stream),
        route(f"{v1}/worker/{{course:id}}/{{scope:scope}}", GET=workers.list_workers),
        route(f"{v1}/worker/{{worker_id:id}}", POST=polling.register),
        route(f"{v1}/grading_job/{{worker_id:id}}", GET=polling.poll, POST=polling.report),
        route(f"{v1}/heartbeat/{{worker_id:id}}", POST=polling.heartbeat),
        route(f"{v1}/worker_ws/{{worker_id:id}}", GET=sockets.explain),
        WebSocketRoute(f"{v1}/worker_ws/{{worker_id:id}}", partial(sockets.attend, deps=deps)),
    ]

"""The routes of v2: handlers by path and method."""

from collections.abc import Mapping

from starlette.routing import Route

from broadway.ingest.http.deps import Deps, Handler
from broadway.ingest.http.endpoint import route
from broadway.ingest.v2 import (
    artifacts,
    assignment_settings,
    assignments,
    audit,
    courses,
    dead_letters,
    deliveries,
    graders,
    hooks,
    ids,
    job_files,
    jobs,
    join_tokens,
    logs,
    orders,
    pools,
    reports,
    rosters,
    run_changes,
    runs,
    submissions,
    tokens,
)

_COURSE = "/api/v2/courses/{course:id}"
_GRADER = "/api/v2/graders/{worker_id:id}"

V2: Mapping[str, Mapping[str, Handler]] = {
    "/api/v2/whoami": {"GET": tokens.whoami},
    "/api/v2/audit": {"GET": audit.list_all},
    "/api/v2/courses": {"GET": courses.list_courses},
    _COURSE: {"GET": courses.show},
    f"{_COURSE}/tokens": {"GET": tokens.list_tokens, "POST": tokens.add},
    f"{_COURSE}/tokens/{{token:id}}": {"DELETE": tokens.revoke},
    f"{_COURSE}/student-tokens": {"GET": tokens.list_of_students, "POST": tokens.add_for_student},
    f"{_COURSE}/student-tokens/{{token:id}}": {"DELETE": tokens.revoke_of_student},
    f"{_COURSE}/audit": {"GET": audit.list_of_course},
    f"{_COURSE}/assignments": {"GET": assignments.list_assignments},
    f"{_COURSE}/assignments/{{assignment:id}}": {"GET": assignments.describe, "PUT": assignments.put},
    f"{_COURSE}/assignments/{{assignment:id}}/roster": {"GET": rosters.show, "PUT": rosters.put},
    f"{_COURSE}/assignments/{{assignment:id}}/settings": {
        "GET": assignment_settings.show,
        "PUT": assignment_settings.put,
    },
    f"{_COURSE}/assignments/{{assignment:id}}/settings/versions": {"GET": assignment_settings.list_versions},
    f"{_COURSE}/assignments/{{assignment:id}}/runs": {"POST": runs.create},
    f"{_COURSE}/assignments/{{assignment:id}}/submissions": {
        "GET": submissions.list_submissions,
        "POST": submissions.create,
        "DELETE": submissions.remove,
    },
    f"{_COURSE}/submissions/{{submission:id}}": {"GET": submissions.show},
    f"{_COURSE}/submissions/{{submission:id}}/files/{{path:path}}": {"GET": submissions.download},
    f"{_COURSE}/submissions/{{submission:id}}/archive": {"GET": submissions.download_all},
    f"{_COURSE}/ids": {"GET": ids.find},
    f"{_COURSE}/runs": {"GET": runs.list_runs},
    f"{_COURSE}/runs/{{run_id:id}}": {"GET": runs.describe},
    f"{_COURSE}/runs/{{run_id:id}}/jobs": {"GET": runs.list_jobs},
    f"{_COURSE}/runs/{{run_id:id}}/changes": {"GET": run_changes.stream},
    f"{_COURSE}/runs/{{run_id:id}}/cancel": {"POST": orders.cancel_run},
    f"{_COURSE}/runs/{{run_id:id}}/rerun": {"POST": orders.rerun_run},
    f"{_COURSE}/jobs/{{job_id:id}}": {"GET": jobs.describe},
    f"{_COURSE}/jobs/{{job_id:id}}/attempts": {"GET": jobs.list_attempts},
    f"{_COURSE}/jobs/{{job_id:id}}/log": {"GET": logs.describe},
    f"{_COURSE}/jobs/{{job_id:id}}/log/stream": {"GET": logs.stream},
    f"{_COURSE}/jobs/{{job_id:id}}/artifacts": {"GET": artifacts.show},
    f"{_COURSE}/jobs/{{job_id:id}}/artifacts/{{path:path}}": {"GET": artifacts.download},
    f"{_COURSE}/jobs/{{job_id:id}}/report": {"GET": reports.describe},
    f"{_COURSE}/jobs/{{job_id:id}}/report/files/{{sha256:id}}": {"GET": reports.download},
    f"{_COURSE}/jobs/{{job_id:id}}/cancel": {"POST": orders.cancel_job},
    f"{_COURSE}/jobs/{{job_id:id}}/rerun": {"POST": orders.rerun_job},
    f"{_COURSE}/hooks": {"GET": hooks.list_hooks},
    f"{_COURSE}/hooks/{{hook:id}}": {
        "GET": hooks.show,
        "PUT": hooks.put,
        "DELETE": hooks.delete,
        "POST": hooks.deliver,
    },
    f"{_COURSE}/hooks/{{hook:id}}/deliveries": {"GET": deliveries.list_deliveries},
    f"{_COURSE}/hooks/{{hook:id}}/deliveries/{{delivery:id}}": {"GET": deliveries.show},
    f"{_COURSE}/hooks/{{hook:id}}/deliveries/{{delivery:id}}/redeliver": {"POST": deliveries.redeliver},
    "/api/v2/graders": {"GET": graders.list_graders},
    _GRADER: {"GET": graders.describe, "POST": graders.join, "DELETE": graders.leave},
    f"{_GRADER}/pause": {"POST": graders.pause},
    f"{_GRADER}/resume": {"POST": graders.resume},
    f"{_GRADER}/drain": {"POST": graders.drain},
    f"{_GRADER}/slots": {"POST": graders.set_slots},
    f"{_GRADER}/revoke": {"POST": graders.revoke},
    f"{_GRADER}/readmit": {"POST": graders.readmit},
    f"{_GRADER}/jobs/{{job_id:id}}/submission": {"GET": job_files.show},
    f"{_GRADER}/jobs/{{job_id:id}}/contents/{{sha256:id}}": {"GET": job_files.content},
    f"{_GRADER}/jobs/{{job_id:id}}/artifacts": {"POST": artifacts.create},
    f"{_GRADER}/forget-secret": {"POST": graders.forget_secret},
    "/api/v2/join-tokens": {"GET": join_tokens.list_tokens, "POST": join_tokens.create},
    "/api/v2/join-tokens/{token:id}": {"GET": join_tokens.show, "DELETE": join_tokens.revoke},
    "/api/v2/pools": {"GET": pools.list_pools},
    "/api/v2/pools/{pool:id}": {"PUT": pools.put},
    "/api/v2/dead-letters": {"GET": dead_letters.list_letters},
    "/api/v2/dead-letters/{letter:id}": {"GET": dead_letters.show, "DELETE": dead_letters.discard},
}


def routes(deps: Deps) -> list[Route]:
    """Return the routes of v2."""
    return [route(deps, path, handlers=handlers) for path, handlers in V2.items()]

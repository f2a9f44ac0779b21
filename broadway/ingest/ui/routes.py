"""The routes of the pages."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.deps import Deps, Handler
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.ui import (
    all_courses,
    assignments,
    audit,
    connections,
    courses,
    grades,
    jobs,
    links,
    live,
    logs,
    new_assignments,
    openid,
    operators,
    regrades,
    runs,
    sheets,
    sign_in,
    statics,
    student_grade,
    students,
    tokens,
)
from broadway.ingest.ui.endpoint import NOTHING_HERE, page_route

_COURSE = "/ui/c/{course:id}"
_RUN = f"{_COURSE}/r/{{run_id:id}}"
_JOB = "/ui/j/{job:id}"
_ASSIGNMENT = f"{_COURSE}/a/{{assignment:id}}"
_GRADES = f"{_ASSIGNMENT}/grades"
_GRADE = f"{_GRADES}/s/{{student}}"
_REGRADE = f"{_COURSE}/regrades/{{regrade:id}}"
_STUDENT = f"{_COURSE}/s/{{student}}"


async def static_file(request: Request) -> Response:
    """Serve the style sheet and the script, to anyone, also while the store is unavailable."""
    return statics.served(request) or Response(status_code=404)


@takes(Auth.ANYBODY)
async def nowhere(_: Request, __: Deps) -> Response:
    """Refuse any other address of the pages."""
    raise Refused(404, NOTHING_HERE)


PAGES: Mapping[str, Mapping[str, Handler]] = {
    "/ui": {"GET": courses.home},
    "/ui/sign-in": {"GET": sign_in.show, "POST": sign_in.begin},
    "/ui/openid": {"GET": openid.begin},
    "/ui/openid/back": {"GET": openid.finish},
    "/ui/roles": {"GET": openid.list_roles, "POST": openid.change_role},
    "/ui/sign-out": {"POST": sign_in.end},
    "/ui/sessions": {"GET": sign_in.list_sessions},
    "/ui/sessions/{session:id}/end": {"POST": sign_in.end_session},
    "/s/{token:id}": {"GET": sign_in.show_link, "POST": sign_in.follow_link},
    "/ui/me": {"GET": students.home},
    "/ui/me/a/{assignment:id}": {"GET": students.assignment, "POST": students.hand_in},
    _JOB: {"GET": jobs.show},
    f"{_JOB}/live": {"GET": live.of_job},
    f"{_JOB}/log": {"GET": jobs.download_log},
    f"{_JOB}/log/live": {"GET": logs.follow},
    f"{_JOB}/files.zip": {"GET": jobs.download_all},
    f"{_JOB}/files/{{path:path}}": {"GET": jobs.download_file},
    f"{_JOB}/artifacts/{{path:path}}": {"GET": jobs.download_artifact},
    f"{_JOB}/rerun": {"POST": jobs.rerun},
    _COURSE: {"GET": courses.show},
    f"{_COURSE}/live": {"GET": courses.live},
    f"{_COURSE}/new": {"GET": new_assignments.show, "POST": new_assignments.add},
    f"{_COURSE}/tokens": {"GET": tokens.show, "POST": tokens.add},
    f"{_COURSE}/tokens/{{token:id}}/revoke": {"POST": tokens.revoke},
    f"{_COURSE}/tokens/sessions/{{session:id}}/end": {"POST": tokens.end_session},
    _RUN: {"GET": runs.show},
    f"{_RUN}/live": {"GET": live.of_run},
    f"{_RUN}/rerun": {"POST": runs.rerun},
    f"{_RUN}/cancel": {"POST": runs.cancel},
    _ASSIGNMENT: {"GET": assignments.show},
    f"{_ASSIGNMENT}/roster": {"GET": new_assignments.show_roster, "POST": new_assignments.put_roster},
    f"{_ASSIGNMENT}/links": {"POST": links.add},
    f"{_ASSIGNMENT}/start": {"POST": assignments.start},
    f"{_ASSIGNMENT}/extensions": {"POST": assignments.extend},
    f"{_ASSIGNMENT}/extensions/withdraw": {"POST": assignments.withdraw},
    _GRADES: {"GET": grades.show},
    f"{_GRADES}/versions": {"GET": grades.list_versions},
    f"{_GRADES}/publish": {"POST": grades.publish},
    f"{_GRADES}/undo": {"POST": grades.undo},
    f"{_GRADES}/export": {"GET": sheets.export},
    f"{_GRADES}/merge": {"POST": sheets.merge},
    _GRADE: {"GET": student_grade.show},
    f"{_GRADE}/adjust": {"POST": student_grade.adjust},
    f"{_GRADE}/adjustments/{{adjustment:id}}/withdraw": {"POST": student_grade.withdraw},
    f"{_COURSE}/regrades": {"GET": regrades.list_regrades, "POST": regrades.start},
    _REGRADE: {"GET": regrades.show},
    f"{_REGRADE}/live": {"GET": live.of_regrade},
    f"{_REGRADE}/choose": {"POST": regrades.choose},
    f"{_REGRADE}/publish": {"POST": regrades.publish},
    f"{_REGRADE}/refresh": {"POST": regrades.refresh},
    f"{_REGRADE}/discard": {"POST": regrades.discard},
    f"{_COURSE}/audit": {"GET": audit.show},
    f"{_COURSE}/connections": {"GET": connections.show},
    f"{_COURSE}/hooks/{{hook:id}}": {"GET": connections.show_hook},
    f"{_COURSE}/hooks/{{hook:id}}/{{delivery:id}}/again": {"POST": connections.redeliver},
    f"{_COURSE}/callbacks/{{callback:id}}": {"GET": connections.show_callback},
    f"{_COURSE}/callbacks/{{callback:id}}/ping": {"POST": connections.ping},
    f"{_COURSE}/callbacks/{{callback:id}}/replay": {"POST": connections.replay_failed},
    f"{_COURSE}/callbacks/{{callback:id}}/{{delivery:id}}/again": {"POST": connections.replay},
    _STUDENT: {"GET": students.home_for_staff},
    f"{_STUDENT}/a/{{assignment:id}}": {"GET": students.assignment_for_staff},
    "/ui/ops": {"GET": operators.show},
    "/ui/ops/audit": {"GET": audit.show_all},
    "/ui/ops/courses": {"GET": all_courses.show, "POST": all_courses.add},
    "/ui/ops/live": {"GET": operators.live},
    "/ui/ops/graders/{grader:id}/{order:id}": {"POST": operators.order},
    "/ui/ops/dead/{letter}": {"POST": operators.discard},
    "/ui/{rest:path}": {"GET": nowhere, "POST": nowhere},
}


def routes(deps: Deps) -> list[Route]:
    """Return the routes of the pages."""
    static = Route(f"{statics.PATH}/{{file}}", static_file)
    return [static, *(page_route(deps, path, handlers) for path, handlers in PAGES.items())]

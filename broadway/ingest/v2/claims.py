"""`/assignments/…/late-days` and `/choice`: the late days that students claim, and the submissions that they choose."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.roster import Student
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.standings import NO_STANDING
from broadway.ingest.v2.views.standings import standing_view
from broadway.messages.resources.extensions import Choice, LateDayClaim
from broadway.messages.resources.standings import StandingView

CLAIMANTS = (Auth.COURSE, Auth.STUDENT)


class ClaimQuery(BaseModel):
    """The query of a claim or a choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: Student | None = Field(
        default=None, description="the student; staff must name it, a student's own token may not name another one"
    )


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present claim and choice."""
    course, assignment = course_of(request).id, request.path_params["assignment"]
    found = await deps.reads.standings.of_student(course, assignment, _claimant(request))
    return {"days": found.member.late_days_claimed, "submission": found.member.chosen} if found else None


@operation(StandingView, body=LateDayClaim, query=ClaimQuery, auth=CLAIMANTS, refusals=(400, 403, 422), before=_before)
async def claim(request: Request, deps: Deps) -> Response:
    """Claim late days for an assignment whose policy has `late_days.spend` `claimed`; they replace an earlier claim.

    A student may claim until the assignment closes for that student, and lower a claim until the due time. Staff may
    change it at any time.
    """
    body = await read(request, LateDayClaim, limit=deps.settings.max_body_size)
    course, assignment, student = course_of(request).id, request.path_params["assignment"], _claimant(request)
    await deps.grades.claims.claim(course, assignment, student, body.days, by_staff=_is_staff(request))
    return await _standing(deps, course, assignment, student)


@operation(StandingView, body=Choice, query=ClaimQuery, auth=CLAIMANTS, refusals=(400, 403, 422), before=_before)
async def choose(request: Request, deps: Deps) -> Response:
    """Choose the submission that counts, for an assignment whose policy has `counts` `chosen`; null takes it back.

    A student may choose until the assignment closes for that student, and staff at any time. Each member of a group
    chooses for itself.
    """
    body = await read(request, Choice, limit=deps.settings.max_body_size)
    course, assignment, student = course_of(request).id, request.path_params["assignment"], _claimant(request)
    await deps.grades.claims.choose(course, assignment, student, body.submission, by_staff=_is_staff(request))
    return await _standing(deps, course, assignment, student)


async def _standing(deps: Deps, course: str, assignment: str, student: str) -> Response:
    found = await deps.reads.standings.of_student(course, assignment, student)
    if found is None:
        raise Refused(404, NO_STANDING)
    return answered(standing_view(found))


def _is_staff(request: Request) -> bool:
    return principal_of(request).kind is not Kind.STUDENT


def _claimant(request: Request) -> str:
    """Return the student of a claim or a choice.

    Raises:
        Refused: Staff named no student, or a student named another one.
    """
    named, principal = query_of(request, ClaimQuery).student, principal_of(request)
    if principal.kind is Kind.STUDENT:
        if named not in (None, principal.student):
            raise Refused(403, "student: this token claims and chooses for its own student only")
        return principal.student or ""
    if named is None:
        raise Refused(400, "student: expected the student")
    return named

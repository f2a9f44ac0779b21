"""`/tokens` and `/student-tokens`: tokens that the API hands out; `/whoami`: the principal of a token."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import TokenKind
from broadway.domain.roster import Student
from broadway.ingest.commands.tokens import OF_COURSES, OF_STUDENTS_AND_LINKS
from broadway.ingest.http.answers import CORS
from broadway.ingest.http.auth import course_of, courses_of, principal_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import ALL_TOKENS, Auth, nothing
from broadway.ingest.v2.openapi import PageQuery, answered, operation, query_of
from broadway.ingest.v2.views.tokens import new_token_view, token_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.tokens import (
    NewTokenView,
    StudentTokenRequest,
    TokenRequest,
    TokenView,
    WhoAmI,
)

MANAGERS = (Auth.COURSE, Auth.OPERATOR)
MAX_BODY = 64 * 1024  # bytes


class StudentTokenQuery(PageQuery):
    """The query of a list of students' tokens."""

    student: Student | None = Field(default=None, description="return only this student's tokens")


@operation(WhoAmI, auth=ALL_TOKENS)
async def whoami(request: Request, _: Deps) -> Response:
    """Get the principal of the token: its kind, its name and its course."""
    principal, courses = principal_of(request), [course.id for course in courses_of(request)]
    view = WhoAmI(
        kind=principal.kind.value,
        name=principal.name,
        course=courses[0] if len(courses) == 1 else None,
        courses=courses,
        student=principal.student,
        grader=principal.grader,
        expires_at=principal.expires_at,
    )
    return answered(view)


async def _before(request: Request, deps: Deps) -> Any:
    """Return the token as it is, without its secret, or None."""
    token = await deps.reads.tokens.one(course_of(request).id, request.path_params["token"])
    return token_view(token).model_dump(mode="json") if token else None


@operation(Page[TokenView], query=PageQuery, auth=MANAGERS)
async def list_tokens(request: Request, deps: Deps) -> Response:
    """List the tokens of a course that the API has handed out, latest first; those of the course config have no id."""
    query = query_of(request, PageQuery)
    page = await deps.reads.tokens.of_course(course_of(request).id, OF_COURSES, after=query.after, limit=query.limit)
    return answered(Page[TokenView](items=[token_view(token) for token in page.items], next=page.next))


@operation(NewTokenView, status=201, body=TokenRequest, auth=MANAGERS, refusals=(409,), before=nothing)
async def add(request: Request, deps: Deps) -> Response:
    """Create a named token of a course; this answer alone contains its secret."""
    course = course_of(request)
    body = await read(request, TokenRequest, limit=MAX_BODY)
    kind, by = TokenKind(body.kind), principal_of(request)
    issued = await deps.tokens.add(course.id, kind, body.name, days=body.expires_in_days, by=by)
    location = f"/api/v2/courses/{course.id}/tokens/{issued.token.id}"
    return answered(new_token_view(issued), 201, {"Location": location, "Cache-Control": "no-store"})


@operation(None, status=204, auth=MANAGERS, before=_before)
async def revoke(request: Request, deps: Deps) -> Response:
    """Revoke a token of a course: it is refused from now on."""
    return await _revoke(request, deps, OF_COURSES)


@operation(Page[TokenView], query=StudentTokenQuery, auth=MANAGERS)
async def list_of_students(request: Request, deps: Deps) -> Response:
    """List the tokens and personal links of a course's students, latest first."""
    query = query_of(request, StudentTokenQuery)
    page = await deps.reads.tokens.of_course(
        course_of(request).id, OF_STUDENTS_AND_LINKS, student=query.student, after=query.after, limit=query.limit
    )
    return answered(Page[TokenView](items=[token_view(token) for token in page.items], next=page.next))


@operation(NewTokenView, status=201, body=StudentTokenRequest, auth=MANAGERS, refusals=(409, 422), before=nothing)
async def add_for_student(request: Request, deps: Deps) -> Response:
    """Create a personal token of a student who is in a roster of the course; this answer alone contains its secret."""
    course = course_of(request)
    body = await read(request, StudentTokenRequest, limit=MAX_BODY)
    issued = await deps.tokens.add_for_student(
        course.id, body.student, body.name or "", days=body.expires_in_days, by=principal_of(request)
    )
    location = f"/api/v2/courses/{course.id}/student-tokens/{issued.token.id}"
    return answered(new_token_view(issued), 201, {"Location": location, "Cache-Control": "no-store"})


@operation(None, status=204, auth=MANAGERS, before=_before)
async def revoke_of_student(request: Request, deps: Deps) -> Response:
    """Revoke a student's token or personal link: it is refused from now on, and its sessions end."""
    return await _revoke(request, deps, OF_STUDENTS_AND_LINKS)


async def _revoke(request: Request, deps: Deps, kinds: Sequence[TokenKind]) -> Response:
    await deps.tokens.revoke(course_of(request).id, kinds, request.path_params["token"])
    return Response(status_code=204, headers=CORS)

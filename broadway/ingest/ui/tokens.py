"""`/ui/c/…/tokens`: named tokens of a course, tokens and links of its students, and who is signed in to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import AccessToken, TokenKind
from broadway.domain.json_bodies import check
from broadway.domain.page_session import PageSession
from broadway.domain.pages import Slice
from broadway.domain.roster import MAX_STUDENT_NAME
from broadway.domain.status_line import StatusLine, Tone
from broadway.ingest.commands.tokens import OF_COURSES, OF_STUDENTS_AND_LINKS, Issued
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, principal_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing, takes
from broadway.ingest.ui.beside import Actions, actions_on
from broadway.ingest.ui.endpoint import redirected, visitor
from broadway.ingest.ui.forms import form_of, number_in
from broadway.ingest.ui.lists import slice_after
from broadway.ingest.ui.refused_forms import shown_again
from broadway.ingest.ui.security import LINKS, origin_of
from broadway.ingest.ui.templating import not_kept, page
from broadway.messages.resources.links import LinksRequest
from broadway.messages.resources.tokens import StudentTokenRequest, TokenRequest

ROWS = 50  # of each list
MANAGERS = (Auth.COURSE, Auth.OPERATOR)
_WORDS = {TokenKind.COURSE: "staff", TokenKind.QUERY: "read states", TokenKind.STUDENT: "token", TokenKind.LINK: "link"}


@dataclass(frozen=True, slots=True)
class TokensPage:
    """All that the page shows. ``given`` are the fields of a form that was refused, ``problems`` the reasons."""

    course: str
    in_config: int
    of_course: Slice[AccessToken]
    of_students: Slice[AccessToken]
    sessions: Sequence[PageSession]
    student: str
    now: datetime
    actions: Actions

    @property
    def base(self) -> str:
        """The address of the page."""
        return f"/ui/c/{self.course}/tokens"

    def status(self, token: AccessToken) -> StatusLine:
        """Return the state of a token."""
        if (why := token.why_invalid(self.now)) is None:
            return StatusLine(Tone.GOOD, "valid")
        return StatusLine(Tone.NEUTRAL, "revoked" if token.revoked_at else "expired", why)

    def kind(self, token: AccessToken) -> str:
        """Return the right of a token in a word."""
        return _WORDS.get(token.kind, token.kind.value)


@takes(*MANAGERS)
async def show(request: Request, deps: Deps) -> Response:
    """Show the tokens and the sessions of a course."""
    return _shown(request, await _view(request, deps))


async def _view(request: Request, deps: Deps) -> TokensPage:
    course, given = course_of(request), request.query_params
    student = given.get("student", "")[:MAX_STUDENT_NAME].strip()
    return TokensPage(
        course=course.id,
        in_config=len(course.tokens) + len(course.query_tokens),
        of_course=await _slice(deps, course.id, OF_COURSES, after=given.get("after")),
        of_students=await _slice(
            deps, course.id, OF_STUDENTS_AND_LINKS, after=given.get("students"), student=student or None
        ),
        sessions=await deps.sign_in.of_course(course.id, limit=ROWS),
        student=student,
        now=datetime.now(UTC),
        actions=await actions_on(deps, course.id, "tokens"),
    )


async def _slice(
    deps: Deps, course: str, kinds: Sequence[TokenKind], *, after: str | None, student: str | None = None
) -> Slice[AccessToken]:
    tokens = deps.reads.tokens
    return await slice_after(
        after, lambda place: tokens.of_course(course, kinds, student=student, after=place, limit=ROWS)
    )


def _shown(
    request: Request,
    view: TokensPage,
    *,
    made: Issued | None = None,
    given: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
    status: int = 200,
) -> Response:
    own = visitor(request)
    values = {"view": view, "made": made, "given": given or {}, "problems": problems, "own": own}
    answer = page(request, "tokens.html", status, link=f"{origin_of(request)}{LINKS}", **values)
    return answer if made is None else not_kept(answer)


@takes(*MANAGERS, before=nothing, operation="ui.addToken")
async def add(request: Request, deps: Deps) -> Response:
    """Make a token of the course, or of a student; its secret is on this one page only."""
    course, form, by = course_of(request).id, await form_of(request), principal_of(request)
    before = await _view(request, deps)
    async with shown_again(
        request, lambda status, problems: _shown(request, before, given=form, problems=problems, status=status)
    ):
        if form.get("for") == "student":
            asked = check(_fields(form, "student", "name"), StudentTokenRequest)
            if form.get("kind") == TokenKind.LINK:
                await deps.tokens.demand_student(course, asked.student)
                days = asked.expires_in_days or LinksRequest().expires_in_days
                (issued,) = await deps.sign_in.links.add(course, [asked.student], days=days, replace=False, by=by)
                return _shown(request, await _view(request, deps), made=issued)
            issued = await deps.tokens.add_for_student(
                course, asked.student, asked.name or "", days=asked.expires_in_days, by=by
            )
        else:
            wanted = check(_fields(form, "name", "kind"), TokenRequest)
            kind = TokenKind(wanted.kind)
            issued = await deps.tokens.add(course, kind, wanted.name, days=wanted.expires_in_days, by=by)
    return _shown(request, await _view(request, deps), made=issued)


def _fields(form: Mapping[str, str], *names: str) -> dict[str, Any]:
    """Return the fields of a request that a form means; those that were left empty are missing.

    Raises:
        Refused: 422, the days are no number.
    """
    fields: dict[str, Any] = {name: form[name].strip() for name in names if form.get(name, "").strip()}
    if days := form.get("days", "").strip():
        fields["expires_in_days"] = number_in(days)
        if fields["expires_in_days"] is None:
            raise Refused(422, "days: expected a number of days, or nothing for a token without an end")
    return fields


async def _before(request: Request, deps: Deps) -> Any:
    """Return the token as it is, without its secret, or None."""
    token = await deps.reads.tokens.one(course_of(request).id, request.path_params["token"])
    if token is None:
        return None
    return {"id": token.id, "kind": token.kind.value, "name": token.name, "student": token.student or None}


@takes(*MANAGERS, before=_before, operation="ui.revokeToken")
async def revoke(request: Request, deps: Deps) -> Response:
    """Revoke a token or a link: it is refused from now on, and its sessions end."""
    await form_of(request)
    course, kinds = course_of(request).id, (*OF_COURSES, *OF_STUDENTS_AND_LINKS)
    await deps.tokens.revoke(course, kinds, request.path_params["token"])
    return redirected(f"/ui/c/{course}/tokens")


@takes(*MANAGERS, before=nothing, operation="ui.endSessionOfCourse")
async def end_session(request: Request, deps: Deps) -> Response:
    """End a session of the course."""
    await form_of(request)
    course, identity = course_of(request).id, request.path_params["session"]
    if not await deps.sign_in.end_of_course(course, identity):
        raise Refused(404, "there is no such session, or it has ended")
    own = visitor(request).id == identity
    return redirected("/ui/sign-in" if own else f"/ui/c/{course}/tokens#sessions")

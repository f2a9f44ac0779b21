"""Authorization: from the bearer token of a request to its principal, before a handler runs and a body is read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from starlette.requests import Request

from broadway.domain.access import ANYONE, Kind, Principal, SecretPrefix, is_handed_out, is_secret
from broadway.domain.course import Course, same_secret
from broadway.domain.grader import Grader
from broadway.ingest.commands.admission import Admission, Candidate
from broadway.ingest.commands.tokens import TokensBySecret
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.rights import FOR_GRADERS, Auth, Rights
from broadway.lifecycle.stores import CourseList, CoursesById
from broadway.messages.http import IDENTITY_HEADER
from broadway.ports import StoreError

INVALID = "invalid token"
OPERATORS_REFUSED = (
    "requests of operators are refused: give the API an operators' token, "
    "--operator-token or BROADWAY_OPERATOR_TOKEN (another one than the cluster token)"
)
_WATCHING = {Kind.OPERATOR, Kind.METRICS}
_OF_COURSES = frozenset({Kind.COURSE, Kind.QUERY})
# A course that does not exist takes as long to compare as one that does.
_NO_COURSE = Course(id="none", tokens=("none", "none"), query_tokens=("none",))


class AllCourses(CoursesById, CourseList, Protocol):
    """Courses with their tokens, by id and as a list."""


class GradersBySecret(Protocol):
    """Graders with their own secrets."""

    async def of_secret(self, secret: str) -> Grader | None:
        """Return the grader with a secret, or None."""


@dataclass(frozen=True, slots=True)
class Access:
    """An admitted request: its principal, and the courses that its token belongs to.

    For a route below a course, ``courses`` is that course. ``candidate`` is the grader that asks to join, ``grader``
    the one that speaks to the gateway; None stands for an unknown grader with the cluster token. ``outage`` is the
    error that kept the grader from being read, for handlers with an answer of their own to that.
    """

    principal: Principal
    courses: tuple[Course, ...] = ()
    candidate: Candidate | None = None
    grader: Grader | None = None
    outage: StoreError | None = None


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Finds the principal of a token. ``recent_courses`` may be one second behind the store."""

    courses: AllCourses
    recent_courses: CoursesById
    tokens: TokensBySecret
    graders: GradersBySecret
    admission: Admission
    operator_token: str | None = field(repr=False)
    metrics_token: str | None = field(default=None, repr=False)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def admit(self, request: Request, rights: Rights) -> Access:
        """Return the access of a request whose token is of a kind that the route takes.

        In v2, an unknown course and a wrong token get the same answer; v1 keeps the original's texts.

        Raises:
            Refused: 401.
            CredentialError: The credential is not the grader's in the path.
            AdmissionError: The secret of a grader has not the form of one.
        """
        if rights.is_open:
            return Access(ANYONE)
        token = bearer_token(request)
        if "worker_id" in request.path_params and not FOR_GRADERS.isdisjoint(rights.auth):
            return await self._of_grader(request, token, rights)
        course_id = request.path_params.get("course")
        if course_id is None:
            found = await self._anywhere(token, rights)
        else:
            course = await (self.recent_courses if rights.recent else self.courses).get(course_id)
            if course is None and request.url.path.startswith("/api/v1/"):
                raise Refused(401, "course not found")
            found = await self._in_course(token, course)
        access = next((each for each in found if each.principal.kind in rights.kinds), None)
        if access is None:
            is_closed = self.operator_token is None and Kind.OPERATOR in rights.kinds <= _WATCHING
            raise Refused(401, OPERATORS_REFUSED if is_closed else INVALID)
        if course_id is not None and not access.courses:
            raise Refused(404, "there is no such course")
        return access

    async def people_of(self, token: str) -> list[Access]:
        """Return the accesses that a pasted token gives to people, the one with most rights first."""
        rights = Rights((Auth.OPERATOR, Auth.COURSE, Auth.STUDENT))
        found = await self._anywhere(token, rights)
        return sorted((each for each in found if each.principal.kind in rights.kinds), key=_rank)

    async def _of_grader(self, request: Request, token: str, rights: Rights) -> Access:
        grader_id = request.path_params["worker_id"]
        if Auth.JOIN in rights.auth:
            secret = request.headers.get(IDENTITY_HEADER)
            candidate = await self.admission.recognize(grader_id, bearer=token, secret=secret)
            return Access(Principal(Kind.JOIN, grader_id, grader=grader_id), candidate=candidate)
        grader = await self.admission.authenticate(grader_id, token)
        return Access(Principal(Kind.GRADER, grader_id, grader=grader_id), grader=grader)

    async def _in_course(self, token: str, course: Course | None) -> list[Access]:
        principals = [*await self._general(token), *(course or _NO_COURSE).principals(token)]
        if course is None:
            return [Access(each) for each in principals if each.kind is Kind.OPERATOR]
        return [Access(each, (course,)) for each in principals if each.course in (None, course.id)]

    async def _anywhere(self, token: str, rights: Rights) -> list[Access]:
        found = await self._general(token)
        if _OF_COURSES.isdisjoint(rights.kinds):
            return [Access(each) for each in found]
        courses = sorted(await self.courses.all(), key=lambda course: course.id)
        own = [(course, each) for course in courses for each in course.principals(token)]
        own += [(course, each) for course in courses for each in found if each.course == course.id]
        by_kind: dict[Kind, list[tuple[Course, Principal]]] = {}
        for course, each in own:
            by_kind.setdefault(each.kind, []).append((course, each))
        accesses = [
            Access(of_kind[0][1], tuple(course for course, _ in of_kind))
            for kind in Kind
            if (of_kind := by_kind.get(kind))
        ]
        return accesses + [Access(each) for each in found if each.course is None]

    async def _general(self, token: str) -> list[Principal]:
        """Return the principals of a token that do not follow from a course's config."""
        found = []
        if self.operator_token is not None and same_secret(token, self.operator_token):
            found.append(Principal(Kind.OPERATOR, "operator"))
        if self.metrics_token is not None and same_secret(token, self.metrics_token):
            found.append(Principal(Kind.METRICS, "metrics"))
        if same_secret(token, self.admission.cluster_token):
            found.append(Principal(Kind.JOIN, "cluster token"))
        if is_handed_out(token):
            known = await self.tokens.of_secret(token)
            if known and known.is_valid(self.now()):
                found.append(Principal.of(known))
        if is_secret(token, SecretPrefix.GRADER) and (grader := await self.graders.of_secret(token)):
            found.append(Principal(Kind.GRADER, grader.id, grader=grader.id))
        return found


def _rank(access: Access) -> int:
    return list(Kind).index(access.principal.kind)


def bearer_token(request: Request) -> str:
    """Return the token of a request; the scheme may have any case, but in v1 it must be written as ``Bearer``.

    Raises:
        Refused: 401, the header is missing or is not ``Bearer <token>``.
    """
    return parse_bearer(request.headers.get("authorization", ""), any_case=not request.url.path.startswith("/api/v1/"))


def parse_bearer(header: str, *, any_case: bool = False) -> str:
    """Return the token in the value of an ``Authorization`` header.

    Raises:
        Refused: 401, the value is not ``Bearer <token>``.
    """
    scheme, *rest = header.strip(" \t").split(" ")  # the server does not strip blanks
    if (scheme.capitalize() if any_case else scheme) != "Bearer" or len(rest) != 1 or not rest[0]:
        raise Refused(401, "invalid token format")
    return rest[0]


def grant(request: Request, access: Access) -> None:
    """Keep the access of an admitted request for its handler."""
    request.state.access = access


def principal_of(request: Request) -> Principal:
    """Return the principal of an admitted request."""
    access: Access = request.state.access
    return access.principal


def courses_of(request: Request) -> tuple[Course, ...]:
    """Return the courses that the token of an admitted request belongs to."""
    access: Access = request.state.access
    return access.courses


def candidate_of(request: Request) -> Candidate:
    """Return the grader that asks to join, of an admitted request."""
    access: Access = request.state.access
    assert access.candidate is not None  # noqa: S101 - the route takes join tokens
    return access.candidate


def grader_of(request: Request) -> Grader | None:
    """Return the grader that speaks to the gateway, of an admitted request; None for an unknown one.

    Raises:
        StoreError: The grader could not be read, and its credential not be checked.
    """
    access: Access = request.state.access
    if access.outage:
        raise access.outage
    return access.grader


def course_of(request: Request) -> Course:
    """Return the course in the path of an admitted request."""
    (course,) = courses_of(request)
    return course

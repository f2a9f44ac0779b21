"""Authorization by bearer tokens of courses and of the cluster, checked before a body is read."""

from typing import Protocol

from starlette.requests import Request

from broadway.domain.course import Course, same_secret
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.visit import visit_of
from broadway.lifecycle.stores import CourseList, CoursesById


class AllCourses(CoursesById, CourseList, Protocol):
    """Courses with their tokens, by id and as a list."""


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


async def authorize(request: Request, courses: CoursesById, *, query: bool = False) -> Course:
    """Return the course in the path if the request has a token of it; ``query`` admits query tokens, too.

    Raises:
        Refused: 401, with the text of the first check that failed: header, course or token.
    """
    token = bearer_token(request)
    course = await courses.get(request.path_params["course"])
    if course is None:
        raise Refused(401, "course not found")
    if not course.admits(token, query=query):
        raise Refused(401, "invalid token")
    visit_of(request).note_valid()
    return course


def authorize_cluster(request: Request, cluster_token: str) -> None:
    """Return if a request has the cluster token.

    Raises:
        Refused: 401, the header or the token is wrong.
    """
    if not same_secret(bearer_token(request), cluster_token):
        raise Refused(401, "invalid token")
    visit_of(request).note_valid()

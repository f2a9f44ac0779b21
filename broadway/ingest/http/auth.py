"""Who may ask: bearer tokens of courses and of the cluster. Checked before a body is read."""

from typing import Protocol

from starlette.requests import Request

from broadway.domain.course import Course, same_secret
from broadway.ingest.http.answers import Refused
from broadway.lifecycle.stores import CourseList, CoursesById


class AllCourses(CoursesById, CourseList, Protocol):
    """Courses and their tokens, which can be listed."""


def bearer_token(request: Request) -> str:
    """The token of a request.

    Raises:
        Refused: 401, the header is missing or is not ``Bearer <token>``.
    """
    return parse_bearer(request.headers.get("authorization", ""))


def parse_bearer(header: str) -> str:
    """The token in the value of an ``Authorization`` header.

    Raises:
        Refused: 401, it is not ``Bearer <token>``.
    """
    parts = header.strip(" \t").split(" ")  # the server leaves blanks to us
    if len(parts) != 2 or parts[0] != "Bearer" or not parts[1]:  # noqa: PLR2004 - the scheme and the token
        raise Refused(401, "invalid token format")
    return parts[1]


async def authorize(request: Request, courses: CoursesById, *, query: bool = False) -> Course:
    """The course in the path, if the request may ask about it; ``query`` admits its query tokens too.

    Raises:
        Refused: 401, with the first of the checks that failed: header, course, token.
    """
    token = bearer_token(request)
    course = await courses.get(request.path_params["course"])
    if course is None:
        raise Refused(401, "course not found")
    if not course.admits(token, query=query):
        raise Refused(401, "invalid token")
    return course


def authorize_cluster(request: Request, cluster_token: str) -> None:
    """Let a grader through.

    Raises:
        Refused: 401, header or token.
    """
    if not same_secret(bearer_token(request), cluster_token):
        raise Refused(401, "invalid token")

"""Authorization by bearer tokens of courses and of operators, checked before a body is read."""

from typing import Protocol

from starlette.requests import Request

from broadway.domain.course import Course, same_secret
from broadway.ingest.http.answers import Refused
from broadway.lifecycle.stores import CourseList, CoursesById

OPERATORS_REFUSED = (
    "requests of operators are refused: give the API an operators' token, "
    "--operator-token or BROADWAY_OPERATOR_TOKEN (another one than the cluster token)"
)


class AllCourses(CoursesById, CourseList, Protocol):
    """Courses with their tokens, by id and as a list."""


def bearer_token(request: Request) -> str:
    """Return the token of a request.

    Raises:
        Refused: 401, the header is missing or is not ``Bearer <token>``.
    """
    return parse_bearer(request.headers.get("authorization", ""))


def parse_bearer(header: str) -> str:
    """Return the token in the value of an ``Authorization`` header.

    Raises:
        Refused: 401, the value is not ``Bearer <token>``.
    """
    parts = header.strip(" \t").split(" ")  # the server does not strip blanks
    if len(parts) != 2 or parts[0] != "Bearer" or not parts[1]:  # noqa: PLR2004 - the scheme and the token
        raise Refused(401, "invalid token format")
    return parts[1]


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
    return course


def authorize_operator(request: Request, operator_token: str | None) -> None:
    """Return if a request has the operators' token; None admits no request.

    Raises:
        Refused: 401, the header or the token is wrong, or there is no operators' token.
    """
    token = bearer_token(request)
    if operator_token is None:
        raise Refused(401, OPERATORS_REFUSED)
    if not same_secret(token, operator_token):
        raise Refused(401, "invalid token")

"""`broadway login` and `broadway logout`: tokens that later commands use."""

import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import COURSE_TOKEN, EXIT_USAGE, LOCAL, fail, operator
from broadway.cli.logins import Login, Logins, address
from broadway.domain.header_text import header_problem

CourseOfLogin = Annotated[
    str | None,
    typer.Option("--course", "-c", envvar="BROADWAY_COURSE", help="The course's id.", show_default="that of the token"),
]
ServerOfLogin = Annotated[str, typer.Option("--server", envvar="BROADWAY_SERVER", help="Address of the API.")]


def login(*, course: CourseOfLogin = None, server: ServerOfLogin = LOCAL) -> None:
    """Store a token for later commands.

    It is a token of a course, or a student's own, which is asked for or read from standard input. It is checked, and
    stored in a file that only you can read.
    """
    logins = Logins.read()
    if logins.problem:
        raise fail(f"{logins.file}: {logins.problem}")
    token = _asked()
    with operator(server, token, expected="valid tokens alone") as api:
        principal = api.whoami()
    course = _course(course, principal)
    try:
        logins.add(Login(address(server), course, token))
    except OSError as error:
        raise fail(f"{logins.file}: {error.strerror}") from error
    terminal.message(f"logged in to {course} at {server} as {principal.get('name')}; the token is in {logins.file}")
    if os.environ.get(COURSE_TOKEN):
        terminal.message(f"{COURSE_TOKEN} is set, and commands use that instead; unset it")


def _course(given: str | None, principal: Mapping[str, Any]) -> str:
    """Return the course to log in to: the given one, or the only one of the token."""
    courses = [str(each) for each in principal.get("courses") or ()]
    if not courses:
        raise fail(
            f"this token is one of kind {principal.get('kind')}; expected one of a course or a student", EXIT_USAGE
        )
    if given is None and len(courses) > 1:
        raise fail(f"this token is of several courses; give one as --course: {', '.join(courses)}", EXIT_USAGE)
    if given is not None and given not in courses:
        raise fail(f"--course {given}: this token is of {', '.join(courses)}", EXIT_USAGE)
    return given or courses[0]


def logout(
    *,
    course: Annotated[
        str | None, typer.Option("--course", "-c", help="The course's id.", show_default="that of the login")
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="Address of the API.", show_default="that of the login")
    ] = None,
) -> None:
    """Remove the stored token of a course. It stays valid: `broadway course token revoke` ends that."""
    logins = Logins.read()
    server = server or logins.server or LOCAL
    course = course or logins.course_at(server)
    try:
        is_removed = course is not None and logins.remove(server, course)
    except OSError as error:
        raise fail(f"{logins.file}: {error.strerror}") from error
    if not logins.stored:
        raise fail(f"{logins.file}: {logins.problem}" if logins.problem else "there is no login")
    if not is_removed:
        raise fail(f"there is no login to remove for {course or 'any course'} at {server}")
    terminal.message(f"logged out of {course} at {server}")


def _asked() -> str:
    """Return the token that a person types, without showing it, or the first line of standard input."""
    if terminal.can_ask():
        token = terminal.ask_secret("Token: ").strip()
    else:
        token = terminal.standard_input().decode("utf-8", "replace").partition("\n")[0].strip()
    if not token:
        raise fail("no token: type it, or send it to standard input", EXIT_USAGE)
    if problem := header_problem(token):
        raise fail(f"the token {problem}", EXIT_USAGE)
    return token

"""`broadway login` and `broadway logout`: tokens that later commands use."""

from typing import Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_USAGE, LOCAL, fail, header_secret, submissions_client
from broadway.cli.logins import Login, Logins

CourseOfLogin = Annotated[str, typer.Option("--course", "-c", envvar="BROADWAY_COURSE", help="The course's id.")]
ServerOfLogin = Annotated[str, typer.Option("--server", envvar="BROADWAY_SERVER", help="Address of the API.")]


def login(*, course: CourseOfLogin, server: ServerOfLogin = LOCAL) -> None:
    """Store a token of a course, or a student's own, for later commands.

    The token is asked for, or read from standard input. It is checked, and stored in a file that only you can read.
    """
    token = _asked()
    with submissions_client(server, course, token) as api:
        principal = api.whoami()
    if course not in (principal.get("courses") or []):
        raise fail(f"--course {course}: this token is not of this course", EXIT_USAGE)
    logins = Logins.read()
    try:
        logins.add(Login(server, course, token))
    except OSError as error:
        raise fail(f"{logins.file}: {error.strerror}") from error
    terminal.message(f"logged in to {course} at {server} as {principal.get('name')}; the token is in {logins.file}")


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
    header_secret(token)
    return token

"""The common parts of commands: options, connections to the API, questions, exit codes."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.logins import Logins
from broadway.domain.header_text import header_problem
from broadway.domain.names import COURSE_ID

if TYPE_CHECKING:
    from broadway.client import Client, ClientError, Operator
    from broadway.submissions_client import SubmissionsClient

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_ALLOWED, EXIT_STILL_RUNNING = 1, 2, 4, 8
EX_CONFIG = 78  # as in settings.loading, whose import takes long
UNKNOWN_TOKEN = 401
_WHOSE = "`broadway whoami` shows whose token it is"
NOT_ALLOWED = (UNKNOWN_TOKEN, 403)


def header_secret(secret: str | None) -> str | None:
    """Return the value of an option that is sent in a header; typer names the option of one that cannot be."""
    if secret is not None and (problem := header_problem(secret)):
        raise typer.BadParameter(problem)
    return secret


Server = Annotated[str, typer.Option("--server", envvar="BROADWAY_SERVER", help="Address of the API.")]
CourseServer = Annotated[
    str | None,
    typer.Option("--server", envvar="BROADWAY_SERVER", help="Address of the API.", show_default="that of the login"),
]
Course = Annotated[
    str | None,
    typer.Option("--course", "-c", envvar="BROADWAY_COURSE", help="The course's id.", show_default="that of the login"),
]
COURSE_TOKEN = "BROADWAY_COURSE_TOKEN"  # noqa: S105 - the name of a variable
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar=COURSE_TOKEN,
        help="One of the course's tokens, or a student's own.",
        show_default="that of the login",
        callback=header_secret,
    ),
]
OPERATOR_TOKENS = ("BROADWAY_OPERATOR_TOKEN", "BROADWAY_TOKEN")
OperatorToken = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar=list(OPERATOR_TOKENS),
        help="The operators' token, which the API has as --operator-token.",
        show_default=False,
        callback=header_secret,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where no person can be asked.")]


def course_id(name: str) -> str:
    """Return the id of a course or a pool; typer names the argument if it cannot be one."""
    if not re.fullmatch(COURSE_ID, name) or len(name) > MAX_ID:
        raise typer.BadParameter(f"expected letters, digits, dashes and underscores, {MAX_ID} at most")
    return name


def _assignment(name: str) -> str:
    """Return the id of an assignment; typer names the argument if it cannot be one."""
    if not re.fullmatch(COURSE_ID, name):
        raise typer.BadParameter("an assignment's id consists of letters, digits, dashes and underscores")
    return name


Assignment = Annotated[str, typer.Argument(metavar="ASSIGNMENT", help="The assignment's id.", callback=_assignment)]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its first six digits.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or its first six digits.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Most lines to print.")]
Reason = Annotated[str | None, typer.Option(help="Reason, to be shown with the results.", show_default=False)]


CurrentConfig = Annotated[
    bool,
    typer.Option("--current-config", help="Use the assignment's current config, not the run's own."),
]

CA_FILE = "BROADWAY_CA_FILE"  # an environment variable, since it is the same for every command
MAX_ID = 100  # characters
LOCAL = "http://127.0.0.1:1470"


def print_records(records: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print records as JSON, or a line for each with some of their fields."""
    if as_json:
        terminal.document(records)
        return
    from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it

    records_table(records, columns)


@contextmanager
def client(
    server: str | None, course: str | None, token: str | None, *, or_operator: bool = False
) -> Iterator["Client"]:
    """Connect to the API for a course. An error ends the command with a line and an exit code.

    With ``or_operator``, operators may run the command, too: without another token theirs is used.
    """
    from broadway.client import Client, ClientError  # noqa: PLC0415 - --help must not wait for it

    access = _access(server, course, token, or_operator=or_operator)
    try:
        with Client.connect(**access, ca_file=ca_file(), waiting=_waiting) as connected:
            yield connected
    except ClientError as error:
        raise _refused(error, f"it is no token of {access['course']} at {access['server']}; {_WHOSE}") from error


@contextmanager
def submissions_client(
    server: str | None, course: str | None, token: str | None, *, or_operator: bool = False
) -> Iterator["SubmissionsClient"]:
    """Connect to the API for handing in and for assignments. Errors end the command as those of `client` do."""
    from broadway.session import ClientError  # noqa: PLC0415 - --help must not wait for it
    from broadway.submissions_client import SubmissionsClient  # noqa: PLC0415

    access = _access(server, course, token, or_operator=or_operator)
    try:
        with SubmissionsClient.connect(**access, ca_file=ca_file(), waiting=_waiting) as connected:
            yield connected
    except ClientError as error:
        raise _refused(error, f"it is no token of {access['course']} at {access['server']}; {_WHOSE}") from error


def _access(server: str | None, course: str | None, token: str | None, *, or_operator: bool = False) -> dict[str, str]:
    """Return the server, the course and the token of a command: as given, or those of the login.

    A stored token is sent only to the server, and used only for the course, that it was stored for.
    """
    logins = Logins.read()
    given, server = server, server or logins.server or LOCAL
    course = course or logins.course_at(server)
    problem = f"; {logins.file}: {logins.problem}" if logins.problem else ""
    if course is None:
        raise fail(f"no course: give --course, set BROADWAY_COURSE, or `broadway login`{problem}", EXIT_USAGE)
    token = token or logins.token_of(server, course)
    if token is None and or_operator and (found := os.environ.get(OPERATOR_TOKENS[0])):
        return {"server": given or LOCAL, "course": course, "token": found}  # operators' tokens go to no login's server
    if token is None:
        advice = "give --token, set BROADWAY_COURSE_TOKEN, or `broadway login`"
        raise fail(f"no token for {course} at {server}: {advice}{problem}", EXIT_NOT_ALLOWED)
    return {"server": server, "course": course, "token": token}


def operators_token() -> str | None:
    """Return the operators' token in the environment, or None."""
    return next((os.environ[name] for name in OPERATOR_TOKENS if os.environ.get(name)), None)


@contextmanager
def operator(
    server: str, token: str | None, *, expected: str = f"the operators' token here; {_WHOSE}"
) -> Iterator["Operator"]:
    """Connect to the API for an operator, with the operators' token. Errors end the command as those of `client` do."""
    from broadway.client import ClientError, Operator  # noqa: PLC0415

    if not token:
        names = " or ".join(OPERATOR_TOKENS)
        raise fail(f"no operators' token: give --token, or set {names}; no login has it", EXIT_NOT_ALLOWED)

    try:
        with Operator.connect(server, token=token, ca_file=ca_file(), waiting=_waiting) as connected:
            yield connected
    except ClientError as error:
        raise _refused(error, f"{server} takes {expected}") from error


def _waiting(seconds: float, reason: str) -> None:
    terminal.message(f"broadway: {reason}; trying again in {seconds:g} s")


def _refused(error: "ClientError", remedy: str) -> typer.Exit:
    reason = f"{error}: {remedy}" if error.status == UNKNOWN_TOKEN else str(error)
    return fail(reason, EXIT_NOT_ALLOWED if error.status in NOT_ALLOWED else EXIT_FAILED)


def ca_file() -> Path | None:
    """Return the file of authorities to trust besides the system's, or None if the environment names no file."""
    file = os.environ.get(CA_FILE)
    if not file:
        return None
    from broadway.runtime.tls import check_authorities  # noqa: PLC0415

    try:
        check_authorities(Path(file))
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise fail(f"{CA_FILE}: {file}: {reason}; expected certificates, in PEM", EXIT_USAGE) from error
    return Path(file)


def confirm(action: str, *, yes: bool) -> None:
    """Return if ``action``, such as `cancel run 1a2b3c`, may be carried out; end the command otherwise.

    A person at a terminal is asked. Elsewhere `--yes` is needed, so that no script destroys anything by accident.
    """
    if yes:
        return
    if not terminal.can_ask():
        raise fail(f"{action}: cannot be undone; say --yes, since this is no terminal to ask at", EXIT_USAGE)
    if not terminal.ask(f"{action[0].upper()}{action[1:]}? This cannot be undone."):
        raise fail("nothing is changed")


def fail(reason: str, code: int = EXIT_FAILED) -> typer.Exit:
    """Print the reason, and return the exception that ends the command."""
    terminal.indented(f"broadway: {reason}")
    return typer.Exit(code)

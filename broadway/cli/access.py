"""`broadway course token ...`, `broadway student token ...`, `broadway whoami` and `broadway audit`."""

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    COURSE_TOKEN,
    EXIT_NOT_ALLOWED,
    LOCAL,
    OPERATOR_TOKENS,
    AsJson,
    Course,
    CourseServer,
    OperatorToken,
    Server,
    Token,
    client,
    course_id,
    fail,
    header_secret,
    operator,
    operators_token,
    print_records,
)
from broadway.cli.logins import Logins

COLUMNS = ("id", "kind", "name", "student", "state", "created_at", "created_by", "expires_at")

courses = typer.Typer(help="Courses.", no_args_is_help=True)
students = typer.Typer(help="Students of a course.", no_args_is_help=True)
course_tokens = typer.Typer(help="Named tokens of a course.", no_args_is_help=True)
student_tokens = typer.Typer(help="Personal tokens of students.", no_args_is_help=True)
courses.add_typer(course_tokens, name="token")
students.add_typer(student_tokens, name="token")


class TokenKind(StrEnum):
    """The rights of a course's token."""

    STAFF = "staff"
    QUERY = "query"


Days = Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires; never by default.")]
AnyToken = Annotated[str | None, typer.Option("--token", help="The token.", show_default=False, callback=header_secret)]
Identity = Annotated[str, typer.Argument(metavar="ID", help="Id, as `list` shows it, or the name of a valid token.")]


CourseId = Annotated[str, typer.Argument(metavar="COURSE", help="The course's id.", callback=course_id)]


@courses.command("add")
def add_course(
    course: CourseId,
    *,
    weight: Annotated[float, typer.Option(min=0.01, max=100, help="Share while several courses wait.")] = 1.0,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Limit on its jobs in flight.", show_default=False)
    ] = None,
    pool: Annotated[str, typer.Option(help="The graders that run its jobs.", callback=course_id)] = "default",
    token: OperatorToken = None,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Add a course, for operators. Then make a token for its staff: `broadway course token add`."""
    from broadway.messages.resources.courses import CourseRequest  # noqa: PLC0415 - --help must not wait for it

    wanted = CourseRequest(id=course, weight=weight, concurrency=concurrency, pool=pool)
    with operator(server, token) as api:
        made = api.add_course(wanted)
    if as_json:
        terminal.document(made.model_dump(mode="json"))
        return
    terminal.message(f"course {made.id} is added; a token for its staff: broadway course token add NAME -c {made.id}")


@courses.command("list")
def list_courses(*, token: OperatorToken = None, server: Server = LOCAL, as_json: AsJson = False) -> None:
    """List all courses, for operators: weight, limit and pool."""
    with operator(server, token) as api:
        found = [course.model_dump(mode="json") for course in api.courses()]
    print_records(found, ("id", "weight", "concurrency", "pool"), as_json=as_json)


@course_tokens.command("add")
def add_course_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of its holder, for the audit log.")],
    *,
    kind: Annotated[TokenKind, typer.Option(help="`query` may read states only.")] = TokenKind.STAFF,
    days: Days = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Make a named token of a course, and print it; it is shown only once. Operators may use their token."""
    with client(server, course, token, or_operator=True) as api:
        made = api.add_token(name, kind=kind.value, days=days)
    _show_new(made, as_json=as_json)


@course_tokens.command("list")
def list_course_tokens(
    *, course: Course = None, token: Token = None, server: CourseServer = None, as_json: AsJson = False
) -> None:
    """List the named tokens of a course, latest first; the tokens of the course config are not among them."""
    with client(server, course, token, or_operator=True) as api:
        found = api.tokens()
    print_records(found, COLUMNS, as_json=as_json)


@course_tokens.command("revoke")
def revoke_course_token(
    identity: Identity, *, course: Course = None, token: Token = None, server: CourseServer = None
) -> None:
    """Revoke a named token of a course: it is refused from now on."""
    with client(server, course, token, or_operator=True) as api:
        api.revoke_token(_chosen(identity, api.tokens()))
    terminal.line("revoked")


@student_tokens.command("add")
def add_student_token(
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="The student, as the roster names it.")],
    *,
    name: Annotated[str | None, typer.Option(help="A note, such as the device.", show_default=False)] = None,
    days: Days = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Make a personal token of a student, and print it; it is shown only once."""
    with client(server, course, token, or_operator=True) as api:
        made = api.add_student_token(student, name=name, days=days)
    _show_new(made, as_json=as_json)


@student_tokens.command("list")
def list_student_tokens(
    *,
    student: Annotated[str | None, typer.Option(help="List only this student's.", show_default=False)] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the tokens of a course's students, latest first."""
    with client(server, course, token, or_operator=True) as api:
        found = api.student_tokens(student)
    print_records(found, COLUMNS, as_json=as_json)


@student_tokens.command("revoke")
def revoke_student_token(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id, as `list` shows it.")],
    *,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Revoke a student's token: it is refused from now on."""
    with client(server, course, token, or_operator=True) as api:
        api.revoke_student_token(identity)
    terminal.line("revoked")


def whoami(
    *, course: Course = None, token: AnyToken = None, server: CourseServer = None, as_json: AsJson = False
) -> None:
    """Show the principal of a token.

    It is the first of these: --token, BROADWAY_COURSE_TOKEN, the token of the login, BROADWAY_OPERATOR_TOKEN.
    """
    logins = Logins.read()
    at = server or logins.server or LOCAL
    token = token or os.environ.get(COURSE_TOKEN) or logins.token_of(at, course or logins.course_at(at) or "")
    if not token:  # an operators' token goes where operators' commands go
        at, token = server or LOCAL, _operator_token(None, (COURSE_TOKEN, *OPERATOR_TOKENS), "`broadway login`")
    with operator(at, token, expected="valid tokens alone") as api:
        found = api.whoami()
    if as_json:
        terminal.document(found)
        return
    from broadway.cli.tables import fields_table  # noqa: PLC0415 - --help must not wait for it

    fields_table({"server": at} | {key: value for key, value in found.items() if value not in (None, [])})


def audit(
    *,
    course: Annotated[
        str | None, typer.Option("--course", "-c", help="A course, with its token; without one all, for operators.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only actions of this name.", show_default=False)] = None,
    operation: Annotated[str | None, typer.Option(help="Only this operation.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Number of records, latest first.")] = 50,
    token: AnyToken = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List records of unsafe actions.

    A record has the time, the person, the operation and the object; --json has the states before and after. The records
    of a course need its token, or a login; those of all courses need BROADWAY_OPERATOR_TOKEN.
    """
    if course:
        with client(server, course, token or os.environ.get(COURSE_TOKEN)) as staff:
            found = staff.audit(name=name, operation=operation, limit=limit)
    else:
        with operator(server or LOCAL, _operator_token(token, OPERATOR_TOKENS, "name a course: --course")) as api:
            found = api.audit(name=name, operation=operation, limit=limit)
    print_records(found, ("at", "kind", "name", "address", "operation", "object", "status"), as_json=as_json)


def _operator_token(given: str | None, names: Sequence[str], otherwise: str) -> str:
    """Return an operators' token, as given or in a variable; ``names`` and ``otherwise`` are the advice without one."""
    found = given or operators_token()
    if found is None:
        raise fail(f"no token: give --token, set {' or '.join(names)}, or {otherwise}", EXIT_NOT_ALLOWED)
    return found


def _chosen(identity: str, tokens: Sequence[Mapping[str, Any]]) -> str:
    """Return the id of the token that an id or the name of a valid token means."""
    named = [str(each.get("id")) for each in tokens if each.get("name") == identity and each.get("state") == "valid"]
    return named[0] if len(named) == 1 else identity


def _show_new(made: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.document(made)
        return
    terminal.message(f"token {made.get('id')} of {made.get('name')}; it is not shown again")
    terminal.line(made["token"])

"""`broadway hook` and `broadway roster`: submissions by webhook, for course staff."""

from pathlib import Path
from typing import Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_USAGE, AsJson, Course, CourseServer, Token, Yes, client, confirm, fail
from broadway.domain.counts import plural

app = typer.Typer(help="Submission webhooks and their deliveries.", no_args_is_help=True)
rosters = typer.Typer(help="Rosters: the students who may submit, with their repositories.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The hook's name.", metavar="HOOK")]
Assignment = Annotated[str, typer.Argument(help="The assignment's name.", metavar="ASSIGNMENT")]


@app.command("list")
def hook_list(
    *, course: Course = None, token: Token = None, server: CourseServer = None, as_json: AsJson = False
) -> None:
    """List a course's hooks."""
    with client(server, course, token) as api:
        hooks = api.hooks()
    if as_json:
        terminal.document(hooks)
        return
    from broadway.cli.tables import hook_table  # noqa: PLC0415

    hook_table(hooks)


@app.command("set")
def hook_set(
    name: Name,
    *,
    assignment: Annotated[str, typer.Option(help="The assignment to which deliveries submit.")],
    secret_file: Annotated[
        list[Path],
        typer.Option(
            help="File with a secret, of 16 characters or more. Give two during a change.", exists=True, dir_okay=False
        ),
    ],
    form: Annotated[str, typer.Option("--format", help="github, or json for other front-ends.")] = "github",
    branch: Annotated[
        list[str] | None, typer.Option(help="Branches whose pushes are submissions; main and master by default.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Tags whose pushes are submissions, such as submit-*.")] = None,
    only_latest: Annotated[
        bool, typer.Option("--only-latest", help="A submission supersedes earlier ones that still wait.")
    ] = False,
    quota: Annotated[
        str | None, typer.Option(help="N/SECONDS: the number of submissions that a student may make in that time.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(help="Variables that a delivery of format json may set; none by default.")
    ] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Create or change a hook, and print the address for its deliveries."""
    secrets = [_secret(path) for path in secret_file]
    config: dict[str, Any] = {"assignment": assignment, "format": form, "secrets": secrets, "only_latest": only_latest}
    if branch is not None or tag is not None:
        config |= {"branches": branch or [], "tags": tag or []}
    if quota:
        config["quota"] = _quota(quota)
    if env:
        config["env"] = env
    with client(server, course, token) as api:
        hook = api.put_hook(name, config)
        terminal.line(f"{api.address}{hook['url']}")


@app.command("delete")
def hook_delete(
    name: Name, *, yes: Yes = False, course: Course = None, token: Token = None, server: CourseServer = None
) -> None:
    """Delete a hook; its deliveries are kept."""
    confirm(f"delete hook {name}", yes=yes)
    with client(server, course, token) as api:
        api.delete_hook(name)


@app.command("show")
def hook_show(
    name: Name,
    delivery: Annotated[
        str | None, typer.Argument(metavar="DELIVERY", help="Id of one of its deliveries.", show_default=False)
    ] = None,
    *,
    state: Annotated[
        str | None, typer.Option(help="Only deliveries in this state, such as unmatched.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of deliveries.", min=1, max=500)] = 50,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show a hook's deliveries, latest first; or one delivery, with its body."""
    with client(server, course, token) as api:
        found = [api.delivery(name, delivery)] if delivery else api.deliveries(name, state=state, limit=limit)
    if as_json:
        terminal.document(found[0] if delivery else found)
        return
    from broadway.cli.tables import delivery_table, fields_table  # noqa: PLC0415

    if delivery:
        fields_table(found[0])
    else:
        delivery_table(found)


@app.command("redeliver")
def hook_redeliver(
    name: Name,
    deliveries: Annotated[
        list[str] | None, typer.Argument(metavar="DELIVERIES", help="Ids of deliveries.", show_default=False)
    ] = None,
    *,
    state: Annotated[
        str | None,
        typer.Option(help="All deliveries in this state: unmatched, limited, refused or ignored.", show_default=False),
    ] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Decide deliveries that started no run again, such as after the roster is corrected.

    They keep the time of their first arrival. Exit 1 if one of them starts no run again.
    """
    if bool(deliveries) is bool(state):
        raise fail("name deliveries, or give --state", EXIT_USAGE)
    failed = 0
    with client(server, course, token) as api:
        chosen = deliveries or [each["id"] for each in api.every_delivery(name, state=state)]
        for identity in chosen:
            result, is_accepted = api.redeliver(name, identity)
            terminal.table_row(identity, result)
            failed += not is_accepted
    if failed:
        raise typer.Exit(1)


@rosters.command("show")
def roster_show(
    assignment: Assignment,
    *,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show an assignment's roster."""
    with client(server, course, token) as api:
        roster = api.roster(assignment)
    if as_json:
        terminal.document(roster)
        return
    from broadway.cli.tables import roster_table  # noqa: PLC0415

    roster_table(roster["students"])


@rosters.command("links")
def roster_links(
    assignment: Assignment,
    *,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="CSV file to write, for the course's owner only; - for standard output."),
    ] = Path("-"),
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days until the links expire.")] = 200,
    replace: Annotated[bool, typer.Option("--replace", help="End the students' earlier links.")] = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Make a personal link to the pages for each student of an assignment's roster.

    A link signs its student in. It is not shown again; `broadway student token list` shows which links exist, and
    `broadway student token revoke` ends one, with the sessions that it began.
    """
    with client(server, course, token) as api:
        links = api.add_student_links(assignment, days=days, replace=replace)
    if as_json:
        terminal.document(links)
        return
    from broadway.cli.links import write_links  # noqa: PLC0415 - --help must not wait for it

    write_links(links, output)


@rosters.command("import")
def roster_import(
    assignment: Assignment,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON, or CSV with a header line; - for standard input.")
    ],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check as the server does, print the roster, and store nothing.")
    ] = False,
    encoding: Annotated[
        str, typer.Option(help="Encoding of a file without a byte order mark, such as windows-1252.")
    ] = "utf-8",
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Replace an assignment's roster.

    The columns of a CSV file are student, repository and repository_id; every other column is a variable of the
    student's jobs.
    """
    from broadway.cli.rosters import RefusedRosterError, checked_roster  # noqa: PLC0415 - --help must not wait for it

    try:
        roster = checked_roster(file, encoding=encoding)
    except RefusedRosterError as error:
        raise fail(f"{file}: {error}") from error
    if dry_run:
        terminal.document(roster.model_dump(mode="json"))
        return
    with client(server, course, token) as api:
        api.put_roster(assignment, roster.model_dump(mode="json", exclude_defaults=True))
    terminal.message(plural(len(roster.students), "student"))


def _secret(path: Path) -> str:
    from broadway.domain.text_files import TextFileError, read_secret  # noqa: PLC0415

    try:
        return read_secret(path).strip()
    except TextFileError as error:
        raise fail(f"--secret-file {path}: {error}", EXIT_USAGE) from error


def _quota(text: str) -> dict[str, Any]:
    submissions, slash, seconds = text.partition("/")
    if not slash or not submissions.isdecimal() or not seconds.isdecimal():
        raise fail(f"--quota {text}: expected N/SECONDS, such as 3/3600", EXIT_USAGE)
    return {"submissions": int(submissions), "seconds": int(seconds)}

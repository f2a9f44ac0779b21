"""`broadway callback`: endpoints that get events of a course, for course staff."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    EXIT_USAGE,
    AsJson,
    Course,
    CourseServer,
    Limit,
    Token,
    Yes,
    client,
    confirm,
    fail,
    header_secret,
    print_records,
)

COLUMNS = ("name", "url", "types", "format", "enabled", "failing_since", "disabled_reason")
DELIVERY_COLUMNS = ("id", "at", "type", "state", "attempt", "status", "due_at", "error")

app = typer.Typer(help="Endpoints for callbacks: addresses that get the events of a course.", no_args_is_help=True)


class Format(StrEnum):
    """The form of a callback's body."""

    STANDARD = "standard"
    CLOUDEVENTS = "cloudevents"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The endpoint's name.")]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type", help="A type of events to send, such as run.finished; all types by default.", show_default=False
    ),
]
Description = Annotated[str | None, typer.Option(help="A note for the staff.", show_default=False)]
State = Annotated[
    str | None, typer.Option(help="Only those that are pending, delivered, failed or missed.", show_default=False)
]


@app.command("add")
def add(
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="The address, such as https://lms.example.edu/broadway.")],
    *,
    types: Types = None,
    form: Annotated[Format, typer.Option("--format", help="The form of the body.")] = Format.STANDARD,
    description: Description = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Add an endpoint, and print its secret; it is shown only once."""
    settings = {"format": form.value, "description": description or ""}
    with client(server, course, token) as api:
        made = api.add_callback(name, url, types=types or [], **settings)
    _show_secret(made, as_json=as_json)


@app.command("list")
def list_callbacks(
    *, course: Course = None, token: Token = None, server: CourseServer = None, as_json: AsJson = False
) -> None:
    """List the endpoints of a course."""
    with client(server, course, token) as api:
        found = api.callbacks()
    print_records(found, COLUMNS, as_json=as_json)


@app.command("show")
def show(
    name: Name, *, course: Course = None, token: Token = None, server: CourseServer = None, as_json: AsJson = False
) -> None:
    """Show an endpoint, without its secret."""
    with client(server, course, token) as api:
        found = api.callback(name)
    _show(found, as_json=as_json)


@app.command("set")
def set_callback(
    name: Name,
    *,
    url: Annotated[
        str | None, typer.Option(help="The new address.", show_default=False, callback=header_secret)
    ] = None,
    types: Types = None,
    form: Annotated[Format | None, typer.Option("--format", help="The form of the body.", show_default=False)] = None,
    description: Description = None,
    enabled: Annotated[
        bool | None,
        typer.Option("--enable/--disable", help="Send events, or keep them for a replay.", show_default=False),
    ] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Change an endpoint; options that are left out change nothing."""
    given: Mapping[str, Any] = {
        "url": url,
        "types": types,
        "format": form.value if form else None,
        "description": description,
        "enabled": enabled,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise fail("give a setting to change, such as --enable", EXIT_USAGE)
    with client(server, course, token) as api:
        changed = api.change_callback(name, **changes)
    _show(changed, as_json=as_json)


@app.command("remove")
def remove(
    name: Name, *, yes: Yes = False, course: Course = None, token: Token = None, server: CourseServer = None
) -> None:
    """Remove an endpoint with its deliveries."""
    confirm(f"remove callback {name}", yes=yes)
    with client(server, course, token) as api:
        api.remove_callback(name)


@app.command("rotate")
def rotate(
    name: Name,
    *,
    hours: Annotated[
        int, typer.Option(min=0, max=168, help="Hours for which the present secret also signs; 0 if it was stolen.")
    ] = 24,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Replace an endpoint's secret, and print the new one; it is shown only once."""
    with client(server, course, token) as api:
        rotated = api.rotate_callback(name, hours=hours)
    _show_secret(rotated, as_json=as_json)


@app.command("ping")
def ping(name: Name, *, course: Course = None, token: Token = None, server: CourseServer = None) -> None:
    """Send a test event to an endpoint, and print the event's id; `deliveries` shows the result."""
    with client(server, course, token) as api:
        terminal.line(api.ping_callback(name))


@app.command("deliveries")
def deliveries(
    name: Name,
    delivery: Annotated[
        str | None, typer.Argument(metavar="DELIVERY", help="Id of a delivery.", show_default=False)
    ] = None,
    *,
    state: State = None,
    limit: Limit = 50,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show the deliveries to an endpoint, latest first; or one delivery, with its attempts."""
    with client(server, course, token) as api:
        if delivery:
            _show(api.callback_delivery(name, delivery), as_json=as_json)
            return
        found = api.callback_deliveries(name, state=state, limit=limit)
    print_records(found, DELIVERY_COLUMNS, as_json=as_json)


@app.command("replay")
def replay(
    name: Name,
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="DELIVERIES", help="Ids of deliveries.", show_default=False)
    ] = None,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            help="All failed and missed ones of events since this time, such as 2027-03-01T08:00:00Z.",
            show_default=False,
        ),
    ] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Send deliveries again, with the same ids."""
    if bool(chosen) is bool(since):
        raise fail("name deliveries, or give --since", EXIT_USAGE)
    with client(server, course, token) as api:
        if since:
            number = api.replay_callbacks(name, since)
            terminal.message(f"{number} deliver{'y is' if number == 1 else 'ies are'} sent again")
        for identity in chosen or []:
            terminal.table_row(identity, str(api.replay_callback(name, identity).get("state", "")))


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.document(found)
        return
    from broadway.cli.tables import fields_table  # noqa: PLC0415 - --help must not wait for it

    fields_table(found)


def _show_secret(made: dict[str, Any], *, as_json: bool) -> None:
    """Print a new secret alone, for a pipe into a file, or the whole endpoint."""
    if as_json:
        terminal.document(made)
        return
    terminal.message("the secret, which is shown only once:")
    terminal.line(str(made["secret"]))

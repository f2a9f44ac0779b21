"""`broadway extension ...`: later times for a student, a group, or all students with a label."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_USAGE, AsJson, Assignment, Course, CourseServer, Token, fail, submissions_client

if TYPE_CHECKING:
    from broadway.domain.extension import ExtensionOrder, Target
    from broadway.messages.resources.extensions import ExtensionPreview, ExtensionView
    from broadway.messages.resources.standings import TimeView

app = typer.Typer(help="Later times for a student, a group, or all students with a label.", no_args_is_help=True)

Student = Annotated[str | None, typer.Option(help="The student that it is for.", show_default=False)]
Group = Annotated[str | None, typer.Option(help="The group that it is for.", show_default=False)]
Label = Annotated[str | None, typer.Option(help="The label whose students it is for.", show_default=False)]
Reason = Annotated[str, typer.Option(help="The reason, for staff.", show_default=False)]
TIME = "such as 2026-12-04T23:59, by the clock of the assignment's zone"


@app.command("add")
def add(
    assignment: Assignment,
    *,
    student: Student = None,
    group: Group = None,
    label: Label = None,
    due: Annotated[str | None, typer.Option(help=f"The new due time, {TIME}.", show_default=False)] = None,
    closes: Annotated[str | None, typer.Option(help=f"The new closing time, {TIME}.", show_default=False)] = None,
    days: Annotated[int, typer.Option(min=0, help="Days to add to the due time.")] = 0,
    minutes: Annotated[int, typer.Option(min=0, help="Minutes to add to the due time.")] = 0,
    reason: Reason = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the students' times before and after it; store nothing.")
    ] = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Add an extension; it replaces an earlier one for the same student, group or label."""
    target, name = _target(student, group, label)
    order = _order(target, name, due=due, closes=closes, add_days=days, add_minutes=minutes, reason=reason)
    with submissions_client(server, course, token) as api:
        if dry_run:
            _show_preview(api.preview_extension(assignment, order), as_json=as_json)
            return
        added = api.extend(assignment, order)
    if added.warning:
        terminal.message(f"warning: it has no effect: {added.warning}")
    if as_json:
        terminal.document(added.model_dump(mode="json"))
    else:
        terminal.message(f"{assignment}: extension {added.id} for {target} {name}: {_times(added)}")


@app.command("list")
def list_extensions(
    assignment: Assignment,
    *,
    every: Annotated[bool, typer.Option("--all", help="Also those that are withdrawn or replaced.")] = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the extensions of an assignment that are in force."""
    with submissions_client(server, course, token) as api:
        found = api.extensions(assignment, in_force=not every)
    if as_json:
        terminal.document([each.model_dump(mode="json") for each in found])
        return
    from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it

    rows = [
        {
            "id": each.id,
            "for": f"{each.order.target} {each.order.name}",
            "times": _times(each),
            "in force": "yes" if each.is_in_force else "no",
            "by": each.by,
            "reason": each.order.reason,
        }
        for each in found
    ]
    records_table(rows, ("id", "for", "times", *(("in force",) if every else ()), "by", "reason"))


@app.command("withdraw")
def withdraw(
    assignment: Assignment,
    *,
    student: Student = None,
    group: Group = None,
    label: Label = None,
    reason: Reason = "",
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw the extension of a student, a group or a label: the assignment's own times hold again."""
    target, name = _target(student, group, label)
    with submissions_client(server, course, token) as api:
        withdrawn = api.withdraw_extension(assignment, target, name, reason=reason)
    if as_json:
        terminal.document(withdrawn.model_dump(mode="json"))
    else:
        terminal.message(f"{assignment}: the extension for {target} {name} is withdrawn")


def _target(student: str | None, group: str | None, label: str | None) -> "tuple[Target, str]":
    """Return the one target of the options."""
    from broadway.domain.extension import Target  # noqa: PLC0415 - --help must not wait for it

    given = [(target, name) for target, name in zip(Target, (student, group, label), strict=True) if name]
    if len(given) != 1:
        raise fail("expected one of --student, --group and --label", EXIT_USAGE)
    return given[0]


def _order(target: "Target", name: str, **times: Any) -> "ExtensionOrder":
    """Return an order, checked as the server checks it."""
    from pydantic import ValidationError  # noqa: PLC0415

    from broadway.domain.extension import ExtensionOrder  # noqa: PLC0415
    from broadway.domain.mistakes import mistakes  # noqa: PLC0415

    try:
        order = ExtensionOrder.model_validate({"target": target, "name": name, **times})
    except ValidationError as error:
        raise fail(mistakes(error, ExtensionOrder)[0], EXIT_USAGE) from error
    if order.is_empty:
        raise fail("expected --due, --closes, --days or --minutes; `extension withdraw` takes one back", EXIT_USAGE)
    return order


def _show_preview(preview: "ExtensionPreview", *, as_json: bool) -> None:
    if preview.warning:
        terminal.message(f"warning: it would have no effect: {preview.warning}")
    if as_json:
        terminal.document(preview.model_dump(mode="json"))
        return
    from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it

    rows = [
        {
            "student": each.student,
            "due": _text(each.before.due),
            "closes": _text(each.before.closes),
            "new due": _text(each.after.due),
            "new closes": _text(each.after.closes),
        }
        for each in preview.students
    ]
    records_table(rows, ("student", "due", "closes", "new due", "new closes"))
    if preview.count > len(rows):
        terminal.message(f"and {preview.count - len(rows)} more students")


def _times(extension: "ExtensionView") -> str:
    order = extension.order
    parts = [f"{name} {at:%Y-%m-%dT%H:%M}" for name, at in (("due", order.due), ("closes", order.closes)) if at]
    parts += [f"+{number} {unit}" for number, unit in ((order.add_days, "d"), (order.add_minutes, "min")) if number]
    return ", ".join(parts) or "withdrawn"


def _text(time: "TimeView | None") -> str:
    return time.text if time else ""

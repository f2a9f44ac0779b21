"""`broadway student export` and `broadway student delete`: all that is stored about a student."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    EXIT_STILL_RUNNING,
    EXIT_USAGE,
    AsJson,
    Course,
    CourseServer,
    Token,
    Yes,
    confirm,
    fail,
    submissions_client,
)

if TYPE_CHECKING:
    from broadway.messages.resources.students import DeletionView

POLL = 0.5  # seconds

Student = Annotated[str, typer.Argument(metavar="STUDENT", help="The student, as the roster names it.")]

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The new file.", show_default="STUDENT.zip", dir_okay=False)
]


def export(
    student: Student,
    *,
    output: Output = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Write all that is stored about a student to a zip: submissions, jobs, logs, reports, grades, tokens, audit."""
    target = output or Path(f"{student.replace('/', '_')}.zip")
    with submissions_client(server, course, token, or_operator=True) as api:
        api.export_student(student, target)
    terminal.message(f"{target} has all that is stored about {student}")


def delete(
    student: Student,
    *,
    reason: Annotated[str, typer.Option(help="The reason, for the receipt.", show_default=False)] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Yes = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the receipt.")] = 600.0,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Delete all that is stored about a student, and show the receipt. Export it before: it cannot be undone."""
    if not dry_run and not reason.strip():
        raise fail("--reason: expected a text, which the receipt has", EXIT_USAGE)
    if not dry_run:
        confirm(f"delete all that is stored about {student}", yes=yes)
    with submissions_client(server, course, token, or_operator=True) as api:
        found = api.delete_student(student, reason=reason, dry_run=dry_run)
        deadline = time.monotonic() + timeout
        while not dry_run and found.ended_at is None:
            if time.monotonic() > deadline:
                raise fail("the deletion goes on; repeat the command for its receipt", EXIT_STILL_RUNNING)
            time.sleep(POLL)
            found = api.student_deletion(student)
    _show(found, as_json=as_json)


def _show(found: "DeletionView", *, as_json: bool) -> None:
    if as_json:
        terminal.document(found.model_dump(mode="json"))
        return
    from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it

    records_table([{"kind": kind, "number": number} for kind, number in found.counts.items()], ("kind", "number"))
    if found.ended_at:
        terminal.message(f"deleted as {found.student} ({found.ended_at:%Y-%m-%d %H:%M} UTC), receipt {found.digest}")
    for each in found.not_reached:
        terminal.message(f"not reached: {each}")

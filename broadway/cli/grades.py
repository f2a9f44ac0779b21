"""`broadway grades ...`: look at grades, publish them and take them back, and adjust the grade of a student."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    EXIT_USAGE,
    AsJson,
    Assignment,
    Course,
    CourseServer,
    Token,
    client,
    fail,
    print_records,
)
from broadway.domain.counts import plural

if TYPE_CHECKING:
    from broadway.client import Client
    from broadway.messages.resources.grades import GradesPage, StudentGrade, VersionView

app = typer.Typer(help="Grades, and the versions of them that students see.", no_args_is_help=True)

COLUMNS = ("student", "status", "points", "max", "submitted at", "late days", "unsettled")
Reason = Annotated[str, typer.Option(help="The reason, for staff.", show_default=False)]
Note = Annotated[str, typer.Option(help="A note that students read.", show_default=False)]
Draft = Annotated[bool, typer.Option("--draft", help="The grades of this moment, not those that students see.")]
Version = Annotated[int | None, typer.Option(min=1, help="A version.", show_default="the published one")]
BasedOn = Annotated[
    int | None,
    typer.Option(
        min=0, help="The version that you looked at; 0 before the first one.", show_default="the published one"
    ),
]


@app.command("show")
def show(
    assignment: Assignment,
    *,
    student: Annotated[
        str | None, typer.Option(help="Show the lines of one student's grade.", show_default=False)
    ] = None,
    draft: Draft = False,
    version: Version = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show the grades of an assignment, or of one student with the arithmetic.

    A student's own token shows its student's published grade.
    """
    which = _which(draft=draft, version=version)
    with client(server, course, token) as api:
        student = student or _own(api)
        if student is not None:
            _show_one(api.grade(assignment, student, version=which), as_json=as_json)
            return
        pages = list(api.grades(assignment, version=which))
    if as_json:
        items = [item for page in pages for item in page.items]
        terminal.document(pages[0].model_copy(update={"items": items, "next": None}).model_dump(mode="json"))
        return
    _show_all(assignment, pages)


@app.command("publish")
def publish(
    assignment: Assignment,
    *,
    note: Note = "",
    reason: Reason = "",
    based_on: BasedOn = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Publish the grades of this moment: students see them from then on.

    With --based-on, it fails if another version was published since you looked.
    """
    with client(server, course, token) as api:
        seen = _published(api, assignment) if based_on is None else based_on
        made = api.publish_grades(assignment, based_on=seen, reason=reason, note=note)
    _tell(assignment, made, "published", as_json=as_json)


@app.command("undo")
def undo(
    assignment: Assignment,
    *,
    to: Annotated[
        int | None, typer.Option(min=0, help="The version to publish again, 0 for no grades.", show_default="the last")
    ] = None,
    note: Note = "",
    reason: Reason = "",
    based_on: BasedOn = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Take a publication back: publish the grades of an earlier version again, as a new version."""
    with client(server, course, token) as api:
        seen = _published(api, assignment) if based_on is None else based_on
        made = api.undo_grades(assignment, based_on=seen, to=to, reason=reason, note=note)
    again = f"the grades of version {made.source} are published"
    _tell(assignment, made, again if made.source != "0" else "students see no grades", as_json=as_json)


@app.command("history")
def history(
    assignment: Assignment,
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Number of versions, latest first.")] = 50,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the versions that are or were published: who published what, when and why."""
    with client(server, course, token) as api:
        found = api.grade_versions(assignment, limit=limit)
    rows = [each.model_dump(mode="json") for each in found]
    columns = ("number", "based_on", "made_from", "source", "students", "at", "by", "reason", "note", "is_published")
    print_records(rows, columns, as_json=as_json)


@app.command("adjust")
def adjust(
    assignment: Assignment,
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="The student.")],
    *,
    add: Annotated[
        str | None, typer.Option(metavar="POINTS", help="Points to add, such as 1.5 or -2.", show_default=False)
    ] = None,
    final: Annotated[
        str | None, typer.Option(metavar="POINTS", help="The grade, whatever was handed in.", show_default=False)
    ] = None,
    excused: Annotated[bool, typer.Option("--excused", help="The student needs no grade.")] = False,
    reason: Annotated[str, typer.Option(help="The reason, which the student reads.")],
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Adjust the grade of a student; the student sees it with the next publication."""
    item = _adjustment(student, add=add, final=final, excused=excused, reason=reason)
    with client(server, course, token) as api:
        (made,) = api.adjust(assignment, [item])
    if as_json:
        terminal.document(made.model_dump(mode="json"))
        return
    terminal.message(f"{assignment}: the grade of {student} is adjusted; publish the grades to show it")
    terminal.line(made.id)


@app.command("adjustments")
def adjustments(
    assignment: Assignment,
    *,
    student: Annotated[str | None, typer.Option(help="List those of one student.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Number of adjustments, latest first.")] = 50,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the adjustments of an assignment, latest first, withdrawn ones too."""
    with client(server, course, token) as api:
        found = api.adjustments(assignment, student=student, limit=limit)
    rows = [each.model_dump(mode="json") for each in found]
    print_records(
        rows, ("id", "student", "kind", "points", "reason", "at", "by", "withdrawn_at", "withdrawn_by"), as_json=as_json
    )


@app.command("withdraw")
def withdraw(
    assignment: Assignment,
    identity: Annotated[str, typer.Argument(metavar="ADJUSTMENT", help="The adjustment's id.")],
    *,
    reason: Reason = "",
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw an adjustment; it stays in the list."""
    with client(server, course, token) as api:
        withdrawn = api.withdraw_adjustment(assignment, identity, reason=reason)
    if as_json:
        terminal.document(withdrawn.model_dump(mode="json"))
    else:
        terminal.message(f"{assignment}: the adjustment of {withdrawn.student} is withdrawn")


def _which(*, draft: bool, version: int | None) -> str:
    if draft and version is not None:
        raise fail("expected --draft or --version, not both", EXIT_USAGE)
    return "draft" if draft else "published" if version is None else str(version)


def _own(api: "Client") -> str | None:
    """Return the student of a student's own token, or None for staff."""
    student = api.whoami().get("student")
    return str(student) if student else None


def _published(api: "Client", assignment: str) -> int:
    """Return the number of the published version; 0 before the first one."""
    found = api.grade_versions(assignment, limit=1)
    return found[0].number if found else 0


def _adjustment(student: str, *, add: str | None, final: str | None, excused: bool, reason: str) -> dict[str, Any]:
    """Return an adjustment, checked as the server checks it."""
    from pydantic import ValidationError  # noqa: PLC0415 - --help must not wait for it

    from broadway.domain.grade_adjustment import AdjustmentOrder  # noqa: PLC0415
    from broadway.domain.mistakes import mistakes  # noqa: PLC0415

    if sum((add is not None, final is not None, excused)) != 1:
        raise fail("expected one of --add, --final and --excused", EXIT_USAGE)
    kind = "excused" if excused else "points" if final is None else "final"
    item = {"student": student, "kind": kind, "points": None if excused else (add or final), "reason": reason}
    try:
        AdjustmentOrder.model_validate(item)
    except ValidationError as error:
        raise fail(mistakes(error, AdjustmentOrder)[0], EXIT_USAGE) from error
    return item


def _tell(assignment: str, made: "VersionView", what: str, *, as_json: bool) -> None:
    if as_json:
        terminal.document(made.model_dump(mode="json"))
    else:
        known = f" as version {made.number}, for {plural(made.students, 'student')}" if made.students else ""
        terminal.message(f"{assignment}: {what}{known}")


def _show_one(found: "StudentGrade", *, as_json: bool) -> None:
    if as_json:
        terminal.document(found.model_dump(mode="json"))
        return
    terminal.message("draft" if found.version is None else f"version {found.version} of {found.at:%Y-%m-%d %H:%M} UTC")
    for line in found.grade.lines:
        terminal.line(line.text)
    if found.note:
        terminal.line(f"Note: {found.note}")
    if found.grade.job:
        terminal.message(f"`broadway job report {found.grade.job}` shows the results of the tests")


def _show_all(assignment: str, pages: "list[GradesPage]") -> None:
    from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it
    from broadway.domain.report import shown  # noqa: PLC0415

    first = pages[0]
    name = f"version {first.version.number}" if first.version else "draft"
    states = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(first.statuses.items()))
    published = f"version {first.published} is published" if first.published else "nothing is published"
    students = f"{plural(first.students, 'student')} ({states})" if first.students else "no grades"
    terminal.message(f"{assignment}: {name}, {students}; {published}")
    if first.unsettled:
        terminal.message(f"of {plural(first.unsettled, 'student')}, results are yet to come")
    rows = [
        {
            "student": each.student,
            "status": each.status,
            "points": None if each.points is None else shown(each.points),
            "max": None if each.max is None else shown(each.max),
            "submitted at": None if each.submitted_at is None else f"{each.submitted_at:%Y-%m-%dT%H:%M:%SZ}",
            "late days": each.late_days,
            "unsettled": len(each.staff.unsettled) if each.staff else 0,
        }
        for page in pages
        for each in page.items
    ]
    records_table(rows, COLUMNS)

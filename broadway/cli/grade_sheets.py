"""`broadway grades export`, `merge` and `import`: grades as files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    EXIT_FAILED,
    EXIT_USAGE,
    AsJson,
    Assignment,
    Course,
    CourseServer,
    Token,
    client,
    fail,
)
from broadway.cli.new_files import check_new, read_bytes, write_new

if TYPE_CHECKING:
    from pydantic import BaseModel

    from broadway.messages.resources.grade_sheets import ExportView, ImportView, MergeView, SheetView

_SINGULAR = re.compile(r"(?<=student)s|(?<=row)s|(?<=change)s|(?<=obstacle)s")
_NAMED = 20  # students and rows of one kind on the terminal

Query = TypeVar("Query", bound="BaseModel")

Format = Literal["csv", "jsonl", "canvas", "moodle", "brightspace", "gradescope"]
Version = Annotated[
    int | None, typer.Option(min=1, help="Version of the grade book.", show_default="the published one")
]
Draft = Annotated[bool, typer.Option("--draft", help="Take the grades of the moment, not a version.")]
MissingCell = Annotated[
    Literal["leave", "blank", "zero"],
    typer.Option("--missing", help="Cell of a student without a submission that counts; leave is blank in new files."),
]
DecimalSign = Annotated[Literal["point", "comma"], typer.Option("--decimal", help="Decimal sign of the scores.")]
StudentIs = Annotated[
    Literal["username", "email", "sis_id", "canvas_id"] | None,
    typer.Option("--student-is", help="Meaning of the students' names in the roster.", show_default=False),
]
Encoding = Annotated[str, typer.Option(help="Encoding of a file without a byte order mark, such as windows-1252.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 unless every student has a grade in the file.")]
Kind = Annotated[Format, typer.Option("--format", help="Columns of the file.")]
Title = Annotated[
    str | None, typer.Option(help="The assignment's title in the system.", show_default="the assignment's id")
]
CanvasId = Annotated[int | None, typer.Option(min=1, help="The assignment's id in Canvas.", show_default=False)]
Export = Annotated[Path, typer.Argument(metavar="FILE", help="The export of the LMS; - for standard input.")]
Column = Annotated[str, typer.Option(help="The column for the scores: its whole name, the assignment's in it, or #7.")]
Unmatched = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The list of all without a counterpart.", show_default="beside --output, if there are any"
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=IDENTIFIER", help="A column with an identifier of students; may be repeated."),
]
ByName = Annotated[bool, typer.Option("--by-name", help="Match by full name where no identifier matches.")]
Sheet = Annotated[Path, typer.Argument(metavar="FILE", help="The changed CSV of an export; - for standard input.")]
Apply = Annotated[bool, typer.Option("--apply", help="Make the changes; without it they are only shown.")]
Reason = Annotated[
    str, typer.Option(help="Reason of changes without a reason of their own; students read it.", show_default=False)
]
OfFile = Annotated[int | None, typer.Option(min=1, help="Version to compare with.", show_default="that of the file")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The new file.", show_default="standard output"),
]


def export(
    assignment: Assignment,
    *,
    kind: Kind = "csv",
    output: Output = None,
    version: Version = None,
    draft: Draft = False,
    missing: MissingCell = "leave",
    decimal: DecimalSign = "point",
    title: Title = None,
    canvas_id: CanvasId = None,
    student_is: StudentIs = None,
    strict: Strict = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Write the published grades of an assignment to a new file.

    No grade is not zero: the cell of a student without a grade is blank. Students that the file cannot name, or whose
    grade is open, are named. The exit code is 1 if an error of the infrastructure left a student without a grade.
    """
    from broadway.messages.resources.grade_queries import ExportQuery  # noqa: PLC0415 - --help must not wait for it

    which = _version(version, draft=draft)
    choices = {"missing": missing, "decimal": decimal, "title": title, "canvas_id": canvas_id, "student_is": student_is}
    query = _query(ExportQuery, format=kind, version=which, **choices)
    output = _output(output, as_json=as_json)
    check_new(output)
    with client(server, course, token) as api:
        made = api.export_grades(assignment, query)
    _deliver(made.file.data, output, as_json=as_json)
    _tell_export(made, as_json=as_json)
    raise typer.Exit(_code(made, strict=strict))


def merge(
    assignment: Assignment,
    file: Export,
    *,
    column: Column,
    output: Output = None,
    unmatched: Unmatched = None,
    key: Keys = None,
    by_name: ByName = False,
    version: Version = None,
    draft: Draft = False,
    missing: MissingCell = "leave",
    decimal: DecimalSign = "point",
    encoding: Encoding = "utf-8",
    student_is: StudentIs = None,
    strict: Strict = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Write the published grades into a column of the file that a learning management system (LMS) has exported.

    All other bytes stay as they are. Students and rows without a counterpart are named and listed. The exit code is 1
    if an error of the infrastructure left a student without a grade, and with --strict if anything was not matched.
    """
    from broadway.messages.resources.grade_queries import MergeQuery  # noqa: PLC0415 - --help must not wait for it

    how = {"key": tuple(key or ()), "by_name": by_name, "student_is": student_is, "encoding": encoding}
    which = _version(version, draft=draft)
    query = _query(MergeQuery, column=column, version=which, missing=missing, decimal=decimal, **how)
    output, unmatched = _outputs(output, unmatched, as_json=as_json)
    data = _bytes(file)
    with client(server, course, token) as api:
        merged = api.merge_grades(assignment, data, query)
    _deliver(merged.file.data, output, as_json=as_json)
    _tell_merge(merged, unmatched, as_json=as_json)
    raise typer.Exit(_code(merged, strict=strict))


def import_(
    assignment: Assignment,
    file: Sheet,
    *,
    apply: Apply = False,
    reason: Reason = "",
    version: OfFile = None,
    draft: Draft = False,
    encoding: Encoding = "utf-8",
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show the changes that were made to an exported CSV in a spreadsheet, or make them.

    Each change is a decision of staff on one grade. Students see it after the next publication. The exit code is 1 if a
    change must not be made, such as one of a grade that is another one by now; then no change is made.
    """
    from broadway.messages.resources.grade_queries import ImportQuery  # noqa: PLC0415 - --help must not wait for it

    which = _version(version, draft=draft)
    query = _query(ImportQuery, version=which, encoding=encoding, apply=apply, reason=reason)
    data = _bytes(file)
    with client(server, course, token) as api:
        found = api.import_grades(assignment, data, query)
    _show_changes(found, as_json=as_json)
    raise typer.Exit(EXIT_FAILED if found.counts["obstacles"] else 0)


def _bytes(file: Path) -> bytes:
    from broadway.domain.sheets.cells import MAX_BYTES  # noqa: PLC0415 - --help must not wait for it

    return read_bytes(file, most=MAX_BYTES)


def _version(number: int | None, *, draft: bool) -> str | None:
    """Return the grades that options name, or None."""
    if draft and number is not None:
        raise fail("expected --draft or --version, not both", EXIT_USAGE)
    return "draft" if draft else None if number is None else str(number)


def _query(shape: type[Query], **values: Any) -> Query:
    """Return a query; end the command if its options contradict each other, or one is out of bounds."""
    from pydantic import ValidationError  # noqa: PLC0415 - --help must not wait for it

    from broadway.domain.mistakes import mistakes  # noqa: PLC0415

    try:
        return shape.model_validate({key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        found = mistakes(error, shape, whole="the options")
        raise fail("; ".join(found), EXIT_USAGE) from error


def _output(output: Path | None, *, as_json: bool) -> Path | None:
    """Return the new file, or None for standard output; end the command if that is a terminal."""
    if output is not None and str(output) != "-":
        return output
    if not as_json and not terminal.takes_data():
        raise fail("--output: name the new file; a terminal would not show its bytes as they are", EXIT_USAGE)
    return None


def _outputs(output: Path | None, unmatched: Path | None, *, as_json: bool) -> tuple[Path | None, Path | None]:
    """Return the new files of a merge; end the command if one of them exists."""
    output = _output(output, as_json=as_json)
    unmatched = unmatched or (output.with_name(f"{output.stem}-unmatched.csv") if output else None)
    if output and output == unmatched:
        raise fail("--unmatched: expected another file than --output", EXIT_USAGE)
    check_new(output, unmatched)
    return output, unmatched


def _deliver(data: bytes, output: Path | None, *, as_json: bool) -> None:
    if output is not None:
        write_new(output, data)
    elif not as_json:
        terminal.data(data)


def _in_words(counts: dict[str, int]) -> str:
    """Return numbers with their nouns, such as `1 changed, 2 rows without a grade`."""
    return ", ".join(f"{count} {_SINGULAR.sub('', name) if count == 1 else name}" for name, count in counts.items())


def _of(sheet: "SheetView") -> str:
    return "draft" if sheet.version is None else f"version {sheet.version}"


def _tell(sheet: "SheetView", title: str, *, counts: dict[str, int]) -> None:
    terminal.message(f"{title}: {_in_words(counts)}")
    for note in sheet.notes:
        terminal.message(f"note: {note}")
    _name("held", [f"{each.student}: {each.reason}" for each in sheet.held], counts["held"])


def _tell_export(made: "ExportView", *, as_json: bool) -> None:
    _tell(made, _of(made), counts=made.counts)
    _name("left out", [f"{each.student}: {each.reason}" for each in made.left_out], made.counts["left out"])
    if as_json:
        terminal.document(made.model_dump(mode="json", exclude={"file": {"content"}}))


def _tell_merge(merged: "MergeView", file: Path | None, *, as_json: bool) -> None:
    _tell(merged, f"{merged.lms}: column {merged.column}, {_of(merged)}", counts=merged.counts)
    _tell_unmatched(merged, file)
    if as_json:
        terminal.document(merged.model_dump(mode="json", exclude={"file": {"content"}, "unmatched": {"content"}}))


def _tell_unmatched(merged: "MergeView", file: Path | None) -> None:
    students, rows = merged.counts["students without a row"], merged.counts["rows without a grade"]
    _name("not in the file", [f"{each.student}: {each.reason}" for each in merged.unmatched_students], students)
    _name(
        "not in the grades", [f"row {each.row} ({each.label}): {each.reason}" for each in merged.unmatched_rows], rows
    )
    if not students + rows:
        return
    if file is None:
        terminal.message("all without a counterpart: give --unmatched FILE for the list")
    else:
        write_new(file, merged.unmatched.data)
        terminal.message(f"all without a counterpart: {file}")


def _show_changes(found: "ImportView", *, as_json: bool) -> None:
    if as_json:
        terminal.document(found.model_dump(mode="json"))
    elif found.changes:
        from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it

        rows = [each.model_dump(mode="json") for each in found.changes]
        records_table(
            [{**each, "after": "excused" if each["excused"] else each["after"]} for each in rows],
            ("row", "student", "before", "after", "reason"),
        )
    state = "applied" if found.applied else "not applied: give --apply"
    base = "draft" if found.version is None else f"version {found.version}"
    counts = _in_words(found.counts)
    terminal.message(f"compared with the {base}: {counts}; {state}" if found.changes else f"{base}: {counts}")
    _name("obstacle", [f"{each.student}: {each.reason}" for each in found.obstacles], found.counts["obstacles"])
    _name(
        "unknown",
        [f"row {each.row} ({each.label}): {each.reason}" for each in found.unknown],
        found.counts["unknown students"],
    )


def _name(kind: str, texts: Sequence[str], count: int) -> None:
    for text in texts[:_NAMED]:
        terminal.message(f"{kind}: {text}")
    if count > _NAMED:
        terminal.message(f"{kind}: {count - _NAMED} more")


def _code(sheet: "SheetView", *, strict: bool) -> int:
    return EXIT_FAILED if sheet.errors or (strict and not sheet.complete) else 0

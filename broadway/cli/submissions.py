"""`broadway submit` and `broadway submission ...`: hand in files, look at submissions, and download them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    EXIT_FAILED,
    EXIT_STILL_RUNNING,
    EXIT_USAGE,
    AsJson,
    Assignment,
    Course,
    CourseServer,
    Token,
    fail,
    print_records,
    submissions_client,
)

if TYPE_CHECKING:
    from broadway.messages.resources.submissions import SubmissionView
    from broadway.submissions_client import SubmissionsClient

SKIPPED = frozenset({".git", "__pycache__"})  # directories that are not handed in
UNGRADED = frozenset({"infrastructure_error", "cancelled", "superseded"})  # outcomes of jobs that graded nothing

app = typer.Typer(help="Files that students handed in.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(metavar="SUBMISSION", help="The submission's id.")]
Student = Annotated[
    str | None, typer.Option(help="The student or the group, as the roster names it.", show_default=False)
]


def submit(
    assignment: Assignment,
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="Files, directories, or one zip or tar.gz.", exists=True)
    ],
    *,
    student: Student = None,
    key: Annotated[
        str | None, typer.Option(help="Your name for this submission: repeated commands make one.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait until it is graded.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds for --watch; exit 8 if they end.")] = 3600,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Hand in files for an assignment, and print the submission's id.

    The files of a directory keep their paths below it. A student's own token hands in for its student; staff name the
    student. The exit code is 1 for a submission that is stored and not graded, by a decision or for a fault of the
    infrastructure. A failed test does not count.
    """
    files = files_of(paths)
    with submissions_client(server, course, token) as api:
        made = api.submit(assignment, files, student=student, key=key)
        terminal.message(f"{_counted(made.count)} of {made.student}, {made.size} bytes: {_state(made)}")
        if not as_json:
            terminal.line(made.id)
        code = EXIT_FAILED if made.is_decided_against else 0
        if watch:
            made, code = _watched(api, made, within=timeout)
    if as_json:
        terminal.document(made.model_dump(mode="json"))
    raise typer.Exit(code)


def files_of(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return the files below paths with their names in a submission, in order."""
    found: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_dir():
            below = sorted(each for each in path.rglob("*") if each.is_file())
            found += [
                (each.relative_to(path).as_posix(), each)
                for each in below
                if SKIPPED.isdisjoint(each.relative_to(path).parts)
            ]
        else:
            found.append((path.name, path))
    if not found:
        raise fail("FILES: there is no file in these directories", EXIT_USAGE)
    return found


def _watched(api: "SubmissionsClient", made: "SubmissionView", *, within: float) -> tuple["SubmissionView", int]:
    """Wait until a submission is graded; return it, and the exit code."""
    told = _state(made)
    for made in api.watch(made.id, within=within):  # noqa: B020 PLR1704 - the latest view of the same submission
        if (state := _state(made)) != told:
            terminal.message(state)
            told = state
    if made.job and made.job.outcome:
        return made, EXIT_FAILED if made.job.outcome in UNGRADED else 0
    if made.is_decided_against:
        return made, EXIT_FAILED
    if made.state is None:
        terminal.message("it is graded with the next run for the roster")
        return made, 0
    terminal.message(f"not graded within {within:g} s; its grading goes on")
    return made, EXIT_STILL_RUNNING


def _counted(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _state(made: "SubmissionView") -> str:
    if made.job:
        from broadway.cli.points import out_of  # noqa: PLC0415 - --help must not wait for it

        points = out_of(made.job.score, made.job.max_score)
        return f"{made.job.outcome or made.job.state}{points and f', {points}'}"
    state = str(made.state or "waits for the run for the roster")
    return f"{state}: {made.reason}" if made.reason else state


@app.command("list")
def list_submissions(
    assignment: Assignment,
    *,
    student: Student = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Number of submissions, latest first.")] = 50,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the submissions for an assignment, latest first.

    A student's own token lists those of its student.
    """
    with submissions_client(server, course, token) as api:
        found = api.submissions(assignment, student=student, limit=limit)
    rows = [each.model_dump(mode="json") for each in found]
    print_records(rows, ("id", "student", "at", "count", "size", "by"), as_json=as_json)


@app.command("show")
def show(
    identity: Identity,
    *,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show a submission: its files, and the state of its grading."""
    with submissions_client(server, course, token) as api:
        found = api.submission(identity)
    if as_json:
        terminal.document(found.model_dump(mode="json"))
        return
    from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it

    terminal.message(
        f"{found.assignment} {found.id} of {found.student}, {found.at:%Y-%m-%d %H:%M:%S} UTC: {_state(found)}"
    )
    records_table([each.model_dump(mode="json") for each in found.files], ("path", "size", "sha256"))


@app.command("download")
def download(
    identity: Identity,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Path of one file; all files, as a zip, without it.", show_default=False),
    ] = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The new file, or a directory for it.", show_default="the name on the server"
        ),
    ] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Download a file of a submission, or all of them as a zip."""
    name = file.rpartition("/")[2] if file else f"{identity}.zip"
    target = output / name if output and output.is_dir() else output or Path(name)
    with submissions_client(server, course, token) as api:
        api.download(identity, file, target)
    terminal.line(str(target))

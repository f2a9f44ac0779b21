"""`broadway assignment ...`: pipelines and settings of assignments, from files that people write."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import AsJson, Assignment, Course, CourseServer, Token, fail, submissions_client
from broadway.cli.standings import standings_table

if TYPE_CHECKING:
    from broadway.domain.assignment_settings import AssignmentSettings

SETTINGS = "settings"  # the key of an assignment's settings in its file, beside the keys of its pipelines

app = typer.Typer(help="Assignments: their pipelines and settings.", no_args_is_help=True)

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="JSON file with the pipelines, and settings below `settings`; - for standard input."
    ),
]


@app.command("list")
def list_assignments(
    *,
    student: Annotated[
        str | None, typer.Option(help="Show this student's times and attempts.", show_default=False)
    ] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the course's assignments; of a student with the student's times, attempts and late days.

    A student's own token lists those of its student.
    """
    with submissions_client(server, course, token) as api:
        of_student = student or api.student()
        standings = api.standings(of_student) if of_student else []
        names = [] if of_student else api.assignments()
    if of_student:
        if as_json:
            terminal.document([each.model_dump(mode="json") for each in standings])
        else:
            standings_table(standings)
        return
    if as_json:
        terminal.document(names)
        return
    for name in names:
        terminal.line(name)


@app.command("show")
def show(assignment: Assignment, *, course: Course = None, token: Token = None, server: CourseServer = None) -> None:
    """Print an assignment as JSON.

    It has its pipelines and settings, in the form that `assignment apply` takes.
    """
    with submissions_client(server, course, token) as api:
        config = api.assignment(assignment)["config"]
        settings = api.settings(assignment)["settings"]
    terminal.document({key: value for key, value in config.items() if value is not None} | {SETTINGS: settings})


@app.command("validate")
def validate(
    file: File,
    *,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Grade the files of this directory here, as a grader does.",
            show_default=False,
        ),
    ] = None,
    student: Annotated[str, typer.Option(help="With --run: the student's name.")] = "student",
    env: Annotated[
        list[str] | None,
        typer.Option(help="With --run: a variable of the student, NAME=VALUE; may be repeated.", show_default=False),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="With --run: the runtime, as of a grader, such as oci.", show_default="BROADWAY_RUNTIME"),
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(help="With --run: a directory for its files.", show_default="a temporary one"),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="With --run: also print the output of the stages.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a file as the server does, without a server.

    With --run, also grade the files of a directory, and print the report as staff and as the student would see it. A
    failed test does not fail the command; it exits with 1 if the autograder or this machine gives no result.
    """
    pipelines, settings = _read(file)
    _warn(pipelines)
    terminal.message(f"{file}: valid")
    if run is None:
        return
    from broadway.cli.dry_runs import Wish, show_dry_run  # noqa: PLC0415 - it loads the grader
    from broadway.domain.assignment_settings import AssignmentSettings  # noqa: PLC0415

    wish = Wish(run, student, tuple(env or ()), runtime, work_dir, shows_log=log, as_json=as_json)
    raise typer.Exit(show_dry_run(file.stem or "assignment", pipelines, settings or AssignmentSettings(), wish))


@app.command("apply")
def apply(
    assignment: Assignment,
    file: File,
    *,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Store the pipelines and settings of a file.

    Without `settings` in the file, the stored settings stay as they are.
    """
    pipelines, settings = _read(file)
    _warn(pipelines)
    with submissions_client(server, course, token) as api:
        api.put_assignment(assignment, pipelines)
        changed = settings.model_dump(mode="json", exclude_unset=True) if settings else None
        stored = api.put_settings(assignment, changed) if changed is not None else None
    version = f", settings version {stored['version']}" if stored else ""
    terminal.message(f"{assignment}: pipelines stored{version}")


@app.command("build-gradescope")
def build_gradescope(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Gradescope's autograder.zip.")],
    *,
    base: Annotated[str, typer.Option(help="The image to start from.")],
    tag: Annotated[str, typer.Option(help="The name of the new image.")],
    network: Annotated[str, typer.Option(help="Docker's network for setup.sh.", show_default="docker's default")] = "",
) -> None:
    """Build the image of a Gradescope autograder with the docker command of this machine.

    It uses this machine's settings of package managers and proxies, and keeps them out of the image.
    """
    from broadway.cli.autograder_build import BuildError, prepared  # noqa: PLC0415 - --help must not wait for it
    from broadway.cli.autograder_zip import AutograderRefusedError  # noqa: PLC0415

    try:
        with prepared(os.environ, network) as (build, settings):
            top = build.image(archive, base=base, tag=tag, settings=settings)
    except (AutograderRefusedError, OSError) as error:
        raise fail(f"{archive}: {error}") from error
    except BuildError as error:
        raise fail(f"{tag}: {error}") from error
    if top:
        terminal.message(f"{archive}: all its files are in the directory {top}/, which was left out")
    terminal.message(f'{tag}: built. Give a stage "kind": "gradescope" and "image": "{tag}", and push it to a registry')


def _warn(pipelines: dict[str, Any]) -> None:
    """Say of each stage with a kind that it is not tamper-proof."""
    for key, stages in pipelines.items():
        for index, stage in enumerate(stages if isinstance(stages, list) else ()):
            if stage.get("kind"):
                terminal.message(
                    f"{key}.{index}: kind {stage['kind']} is compatible, not tamper-proof: a student's program can "
                    "change its score; docs/autograders.md shows how to split it into an untrusted stage and a judge"
                )


def _read(file: Path) -> tuple[dict[str, Any], "AssignmentSettings | None"]:
    """Return the pipelines and the settings in a file, as checked by the server's own rules."""
    from broadway.domain.assignment import AssignmentConfig  # noqa: PLC0415 - --help must not wait for it
    from broadway.domain.assignment_settings import AssignmentSettings  # noqa: PLC0415
    from broadway.domain.json_bodies import InvalidBodyError, parse  # noqa: PLC0415
    from broadway.domain.text_files import TextFileError, decode, read_text  # noqa: PLC0415

    try:
        text = decode(terminal.standard_input()) if str(file) == "-" else read_text(file)
        given = parse_object(text)
        settings = given.pop(SETTINGS, None)
        parse(_json(given), AssignmentConfig)
        if settings is None:
            return given, None
        try:
            return given, parse(_json(settings), AssignmentSettings)
        except InvalidBodyError as error:
            raise InvalidBodyError(f"{SETTINGS}.{error}") from error
    except (TextFileError, InvalidBodyError) as error:
        raise fail(f"{file}: {error}") from error


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises:
        InvalidBodyError: The text is no JSON object.
    """
    import json  # noqa: PLC0415

    from broadway.domain.json_bodies import InvalidBodyError  # noqa: PLC0415

    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidBodyError(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidBodyError("expected a JSON object")
    return found


def _json(value: Any) -> bytes:
    import json  # noqa: PLC0415

    return json.dumps(value).encode()

"""`broadway job artifacts`: the files that a job's stages left."""

from pathlib import Path
from typing import Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_USAGE, AsJson, Course, CourseServer, Token, client, fail, submissions_client


def artifacts(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Download all of them below this directory."),
    ] = None,
    attempt: Annotated[
        int | None,
        typer.Option(min=1, help="Number of an earlier attempt, 1 for the first.", show_default="the one that counts"),
    ] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the artifacts of a job, or download them; files that were left out are named with the reason."""
    number, named = attempt, None
    if number is not None:
        with client(server, course, token) as api_of_jobs:
            attempts = api_of_jobs.attempts(job_id)
        if number > len(attempts):
            raise fail(f"--attempt: the job has {len(attempts)} attempts", EXIT_USAGE)
        named = attempts[number - 1].id
    with submissions_client(server, course, token) as api:
        found = api.artifacts(job_id, attempt=named)
        for file in found.files if output else ():
            target = _target(output or Path(), file.path)
            api.download_artifact(found.job, file.path, target, attempt=found.attempt)
            terminal.message(str(target))
    if as_json:
        terminal.document(found.model_dump(mode="json"))
        return
    from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it

    for left in found.left_out:
        terminal.message(f"left out: {left.path}: {left.reason}")
    if found.left_out_more:
        terminal.message(f"left out: {found.left_out_more} more")
    if not output:
        records_table([each.model_dump(mode="json") for each in found.files], ("path", "stage", "size", "sha256"))


def _target(directory: Path, path: str) -> Path:
    """Return the place of a file below a directory, and make the directories above it."""
    from broadway.domain.files import FileRefusedError, clean_path  # noqa: PLC0415 - --help must not wait for it

    try:
        target = directory / clean_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileRefusedError as error:
        raise fail(f"the server names a file that cannot be written: {error}") from error
    except OSError as error:
        raise fail(f"{directory / path}: {error.strerror}") from error
    return target

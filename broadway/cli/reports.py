"""`broadway job show` and `broadway job report`."""

from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_USAGE, AsJson, Course, CourseServer, JobId, Token, client, fail

if TYPE_CHECKING:
    from broadway.client import Client
    from broadway.messages.resources.reports import ReportView

Attempt = Annotated[
    int | None,
    typer.Option(min=1, help="Number of an earlier attempt, 1 for the first.", show_default="the one that counts"),
]


def show(
    job_id: JobId,
    *,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show a job: its state, its score, its attempts and its stages."""
    from broadway.cli import tables  # noqa: PLC0415 - --help must not wait for it

    with client(server, course, token) as api:
        job = api.job(job_id)
    if as_json:
        terminal.document(job.model_dump(mode="json"))
    else:
        tables.job_table(job)


def report(
    job_id: JobId,
    *,
    attempt: Attempt = None,
    as_student: Annotated[bool, typer.Option("--as-student", help="Show the student's view.")] = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show the report of a finished job.

    It has a score, and a line for each test.
    """
    from broadway.cli import tables  # noqa: PLC0415

    with client(server, course, token) as api:
        found = _report(api, job_id, attempt, "student" if as_student else None)
    if as_json:
        terminal.document(found.model_dump(mode="json"))
    else:
        tables.report_table(found)


def _report(api: "Client", job_id: str, attempt: int | None, view: str | None) -> "ReportView":
    if attempt is None:
        return api.report(job_id, view=view)
    attempts = api.attempts(job_id)
    if attempt > len(attempts):
        raise fail(f"--attempt: the job has {len(attempts)} attempts", EXIT_USAGE)
    return api.report(job_id, attempt=attempts[attempt - 1].id, view=view)

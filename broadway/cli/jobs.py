"""`broadway job ...`: look at jobs, cancel them, and run them again."""

from typing import TYPE_CHECKING

import typer

from broadway.cli import reports, terminal
from broadway.cli.common import (
    EXIT_USAGE,
    Course,
    CourseServer,
    CurrentConfig,
    JobId,
    Reason,
    Token,
    Yes,
    client,
    confirm,
    fail,
)
from broadway.cli.runs import config_used

if TYPE_CHECKING:
    from broadway.client import Client

app = typer.Typer(help="Jobs of a run.", no_args_is_help=True)
app.command("show")(reports.show)
app.command("report")(reports.report)


@app.command("cancel")
def cancel(
    job_id: JobId,
    *,
    reason: Reason = None,
    yes: Yes = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Cancel one job; its run continues without it."""
    confirm(f"cancel job {job_id}", yes=yes)
    with client(server, course, token) as api:
        done = api.cancel_job(job_id, reason=reason)
    terminal.line(f"cancelled; the run is in {done.state}")


@app.command("rerun")
def rerun(
    job_id: JobId,
    *,
    current_config: CurrentConfig = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Run one job again, and then the phases after it."""
    with client(server, course, token) as api:
        done = api.rerun_job(job_id, with_current_config=current_config)
    terminal.line(f"queued; the run is in {done.state}, round {done.round}{config_used(done)}")


@app.command("log")
def log(
    job_id: JobId,
    *,
    attempt: reports.Attempt = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Print the output of a finished job. On a terminal, control characters are shown as escapes."""
    with client(server, course, token) as api:
        output, errors = _log(api, job_id, attempt)
    terminal.show_output(output, errors)


def _log(api: "Client", job_id: str, attempt: int | None) -> tuple[str, str]:
    """Return the output of a job's attempt, and its grader's messages."""
    if attempt is None:
        log = api.job_log(job_id)
        return log.stdout, log.stderr
    attempts = api.attempts(job_id)
    if attempt > len(attempts):
        raise fail(f"--attempt: the job has {len(attempts)} attempts", EXIT_USAGE)
    lines = api.attempt_log(job_id, attempts[attempt - 1].id)
    return "".join(f"{line.text}\n" for line in lines.lines), lines.error

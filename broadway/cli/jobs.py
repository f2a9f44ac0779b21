"""`broadway job ...`: look at jobs, cancel them, and run them again."""

from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli import reports, terminal
from broadway.cli.common import (
    EXIT_FAILED,
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
from broadway.cli.runs import INFRASTRUCTURE_ERROR, config_used

if TYPE_CHECKING:
    from broadway.client import Client

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Follow the output while the job runs.")]
JobExitStatus = Annotated[
    bool, typer.Option("--exit-status", help="With -f, exit with 1 if the job ended in an infrastructure error.")
]

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
    follow: Follow = False,
    exit_status: JobExitStatus = False,
    attempt: reports.Attempt = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Print the output of a job. On a terminal, control characters are shown as escapes.

    With -f, print the lines of a running job as they come, and end with the job; remarks are on stderr.
    """
    if follow and attempt is not None:
        raise fail("--attempt: an earlier attempt cannot be followed; leave out -f", EXIT_USAGE)
    with client(server, course, token) as api:
        if follow:
            raise typer.Exit(_follow(api, job_id, exit_status=exit_status))
        output, errors = _log(api, job_id, attempt)
    terminal.show_output(output, errors)


def _follow(api: "Client", job_id: str, *, exit_status: bool) -> int:
    """Print a job's log to its end; return the exit code."""
    outcome = ""
    for shown in api.follow_log(job_id):
        terminal.show_output("".join(f"{line}\n" for line in shown.lines), "")
        if shown.remark:
            terminal.message(f"[{shown.remark}]")
        outcome = shown.outcome or outcome
    if outcome:
        terminal.message(f"the job has ended: {outcome}")
    return EXIT_FAILED if exit_status and outcome == INFRASTRUCTURE_ERROR else 0


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

"""`broadway job ...`: look at jobs, cancel them, and run them again."""

from itertools import groupby
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
    from broadway.messages.resources.jobs import LogLine, LogView

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

    The names of the stages, and other remarks, are on stderr. With -f, print the lines of a running job as they come,
    and end with the job.
    """
    if follow and attempt is not None:
        raise fail("--attempt: an earlier attempt cannot be followed; leave out -f", EXIT_USAGE)
    with client(server, course, token) as api:
        if follow:
            raise typer.Exit(_follow(api, job_id, exit_status=exit_status))
        kept = _log(api, job_id, attempt)
    for stage, lines in groupby(kept.lines, key=lambda line: line.stage):
        if stage is not None:
            terminal.message(f"[stage {stage + 1}]")
        terminal.show_output("".join(_written(line, with_time=attempt is None) for line in lines), "")
    terminal.show_output("", kept.error)


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


def _written(line: "LogLine", *, with_time: bool) -> str:
    return f"{line.at} {line.text}\n" if with_time and line.at else f"{line.text}\n"


def _log(api: "Client", job_id: str, attempt: int | None) -> "LogView":
    """Return the log of a job's attempt; without an attempt, of the one that ended the job."""
    if attempt is None:
        return api.attempt_log(job_id)
    attempts = api.attempts(job_id)
    if attempt > len(attempts):
        raise fail(f"--attempt: the job has {len(attempts)} attempts", EXIT_USAGE)
    return api.attempt_log(job_id, attempts[attempt - 1].id)

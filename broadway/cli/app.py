"""The command `broadway`, with the subcommands that have no file of their own."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import (
    access,
    assignments,
    dead_letters,
    graders,
    hooks,
    login,
    pools,
    queues,
    reports,
    submissions,
    terminal,
    topology,
)
from broadway.cli.common import (
    EXIT_FAILED,
    EXIT_USAGE,
    AsJson,
    Course,
    CourseServer,
    Token,
    Yes,
    client,
    confirm,
    fail,
    header_secret,
)
from broadway.cli.doctor import doctor

if TYPE_CHECKING:
    from broadway.client import Client
    from broadway.messages.resources.runs import OrderView

app = typer.Typer(
    name="broadway",
    help="A distributed grading service for university courses.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs = typer.Typer(help="Grading runs.", no_args_is_help=True)
jobs = typer.Typer(help="Jobs of a run.", no_args_is_help=True)
configs = typer.Typer(help="Settings of the programs.", no_args_is_help=True)
app.add_typer(runs, name="run")
app.add_typer(jobs, name="job")
app.add_typer(graders.app, name="grader")
app.add_typer(pools.app, name="pool")
app.add_typer(configs, name="config")
app.add_typer(hooks.app, name="hook")
app.add_typer(hooks.rosters, name="roster")
app.add_typer(assignments.app, name="assignment")
app.add_typer(submissions.app, name="submission")
app.add_typer(queues.app, name="queue")
app.add_typer(topology.app, name="topology")
app.add_typer(dead_letters.app, name="dead")
app.add_typer(access.courses, name="course")
app.add_typer(access.students, name="student")
app.command("login")(login.login)
app.command("logout")(login.logout)
jobs.command("show")(reports.show)
jobs.command("report")(reports.report)
app.command("whoami")(access.whoami)
app.command("submit")(submissions.submit)
app.command("audit")(access.audit)
app.command("doctor", context_settings={"ignore_unknown_options": True})(doctor)


def main() -> None:
    """Run the console script."""
    with terminal.written():
        app()


@app.callback(invoke_without_command=True)
def _broadway(*, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from broadway import __version__  # noqa: PLC0415 - --help must not wait for it

        terminal.line(__version__)
        raise typer.Exit


def _secret(text: str) -> Any:
    """Return an option for a token, whose default is not shown."""
    return typer.Option(help=text, show_default=False, callback=header_secret)


@app.command()
def up(
    *,
    directory: Annotated[Path, typer.Option(help="Directory of data, logs and secrets.")] = Path(".broadway/up"),
    bind_addr: Annotated[str, typer.Option(help="Address of the API.")] = "127.0.0.1",
    bind_port: Annotated[int, typer.Option(help="Port of the API.", min=1, max=65535)] = 1470,
    grader_count: Annotated[int, typer.Option("--graders", help="Graders to start.", min=1)] = 1,
    slots: Annotated[int | None, typer.Option(help="Jobs at a time per grader; one per CPU by default.", min=1)] = None,
    course_config: Annotated[
        Path | None, typer.Option(help="JSON file of courses.", exists=True, dir_okay=False)
    ] = None,
    token: Annotated[str | None, _secret("The cluster token; random by default.")] = None,
    operator_token: Annotated[str | None, _secret("The operators' token; random by default.")] = None,
    original_graders: Annotated[
        str, typer.Option(metavar="POOLS", help="Pools, separated by commas, that admit graders of the original.")
    ] = "",
    json_ready: Annotated[
        Path | None, typer.Option(help="File to write all addresses to, once everything is ready.")
    ] = None,
) -> None:
    """Run everything on this machine until Ctrl-C.

    Starts a private RabbitMQ (unless BROADWAY_AMQP_URL is set), an embedded store (unless BROADWAY_MONGODB_DSN is
    set), a Docker Engine if no engine answers, the API and graders.
    """
    import asyncio  # noqa: PLC0415

    from broadway.cli.up import UpOptions  # noqa: PLC0415
    from broadway.cli.up import up as run_up  # noqa: PLC0415

    options = UpOptions(
        directory=directory,
        bind_addr=bind_addr,
        bind_port=bind_port,
        graders=grader_count,
        slots=slots or os.cpu_count() or 1,
        course_config=course_config,
        token=token,
        operator_token=operator_token,
        original_graders=original_graders,
        json_ready=json_ready,
    )
    raise typer.Exit(asyncio.run(run_up(options)))


@app.command()
def health(
    file: Annotated[Path, typer.Argument(help="The file that the service was given as --health-file.")],
) -> None:
    """Print whether a service is ready, or its unavailable parts with time and reason; exit 1 if it is not ready.

    For supervisors of services without HTTP; the API has /readyz.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from broadway.readiness import judge  # noqa: PLC0415

    is_ready, sentence = judge(file, datetime.now(UTC))
    terminal.line(sentence)
    raise typer.Exit(0 if is_ready else EXIT_FAILED)


@runs.command("show")
def run_show(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    *,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show a run: a line for each job, with its outcome and the reason."""
    with client(server, course, token) as api:
        run = api.run(run_id)
    if as_json:
        terminal.document(run.model_dump(mode="json"))
        return
    from broadway.cli.tables import run_table  # noqa: PLC0415

    run_table(run)


Reason = Annotated[str | None, typer.Option(help="Reason, to be shown with the results.", show_default=False)]


CurrentConfig = Annotated[
    bool,
    typer.Option("--current-config", help="Use the assignment's current config, not the run's own."),
]


@runs.command("cancel")
def run_cancel(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    *,
    reason: Reason = None,
    yes: Yes = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Cancel a run: waiting jobs never start, running ones are killed."""
    confirm(f"cancel run {run_id}", yes=yes)
    with client(server, course, token) as api:
        done = api.cancel_run(run_id, reason=reason)
    if done.state == "failed":
        terminal.line(f"{done.count} jobs cancelled; the run is {done.state}")
    else:
        terminal.line(f"cancelling {done.count} jobs: none of them starts any more")


@runs.command("rerun")
def run_rerun(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only jobs that have not succeeded.")] = False,
    current_config: CurrentConfig = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Run the jobs of a run again, and then the phases after them."""
    with client(server, course, token) as api:
        done = api.rerun_run(run_id, failed=failed, with_current_config=current_config)
    terminal.line(f"{done.count} jobs queued; the run is in {done.state}, round {done.round}{_used(done)}")


@jobs.command("cancel")
def job_cancel(
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
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


@jobs.command("rerun")
def job_rerun(
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    *,
    current_config: CurrentConfig = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Run one job again, and then the phases after it."""
    with client(server, course, token) as api:
        done = api.rerun_job(job_id, with_current_config=current_config)
    terminal.line(f"queued; the run is in {done.state}, round {done.round}{_used(done)}")


def _used(done: "OrderView") -> str:
    """Name the config that a rerun uses; an older server does not."""
    if done.is_config_current is None:
        return ""
    if done.is_config_current:
        return "; with the assignment's current config"
    return "; with the config that the run has kept: the assignment has another one now, which --current-config uses"


@jobs.command("log")
def job_log(
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    *,
    attempt: Annotated[
        int | None,
        typer.Option(min=1, help="Number of an earlier attempt, 1 for the first.", show_default="the one that counts"),
    ] = None,
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


@configs.command("show", context_settings={"ignore_unknown_options": True})
def config_show(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROGRAM ARGUMENTS",
            help="The program: api (the default), ingest, dispatcher, results or grader; then its own arguments.",
        ),
    ] = None,
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Print the source of each value.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the settings of a program, as it would read them here with these arguments; secrets are masked."""
    from broadway.cli.config import show  # noqa: PLC0415

    show(arguments or [], origin=origin, as_json=as_json)

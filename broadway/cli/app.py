"""The command `broadway`, with the subcommands that have no file of their own."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from broadway.cli import (
    access,
    artifacts,
    assignments,
    callbacks,
    dead_letters,
    extensions,
    grade_sheets,
    graders,
    grades,
    hooks,
    jobs,
    login,
    pools,
    queues,
    regrades,
    retention,
    runs,
    services,
    standings,
    student_data,
    submissions,
    terminal,
    topology,
    upkeep,
)
from broadway.cli.broker_access import PASSED_ON
from broadway.cli.common import EX_CONFIG, EXIT_FAILED, AsJson, header_secret
from broadway.cli.doctor import doctor
from broadway.installation import explain
from broadway.local.up_variables import adopt

app = typer.Typer(
    name="broadway",
    help="A distributed grading service for university courses.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
configs = typer.Typer(help="Settings of the programs.", no_args_is_help=True)
app.add_typer(runs.app, name="run")
app.add_typer(jobs.app, name="job")
app.add_typer(graders.app, name="grader")
app.add_typer(pools.app, name="pool")
app.add_typer(configs, name="config")
app.add_typer(hooks.app, name="hook")
app.add_typer(hooks.rosters, name="roster")
app.add_typer(callbacks.app, name="callback")
app.add_typer(assignments.app, name="assignment")
app.add_typer(submissions.app, name="submission")
app.add_typer(regrades.app, name="regrade")
app.add_typer(extensions.app, name="extension")
app.add_typer(grades.app, name="grades")
app.add_typer(queues.app, name="queue")
app.add_typer(topology.app, name="topology")
app.add_typer(dead_letters.app, name="dead")
app.add_typer(access.courses, name="course")
app.add_typer(access.students, name="student")
app.add_typer(retention.app, name="retention")
grades.app.command("export")(grade_sheets.export)
grades.app.command("merge")(grade_sheets.merge)
grades.app.command("import")(grade_sheets.import_)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("whoami")(access.whoami)
access.students.command("export")(student_data.export)
access.students.command("delete")(student_data.delete)
jobs.app.command("artifacts")(artifacts.artifacts)
submissions.app.command("choose")(standings.choose)
submissions.app.command("late-days")(standings.claim_late_days)
app.command("submit")(submissions.submit)
app.command("audit")(access.audit)
app.command("migrate", context_settings=PASSED_ON)(upkeep.migrate)
app.command("backup", context_settings=PASSED_ON)(upkeep.backup)
app.command("restore", context_settings=PASSED_ON)(upkeep.restore)
services.add_to(app, graders=graders.app)
app.command("doctor", context_settings={"ignore_unknown_options": True})(doctor)


def main() -> None:
    """Run the console script."""
    with terminal.written(), _installed():
        app()


@contextmanager
def _installed() -> Iterator[None]:
    """End a command whose library is not installed with a sentence, and the status of a wrong configuration."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (reason := explain(error)) is None:
            raise
        terminal.message(f"broadway: {reason}")
        raise SystemExit(EX_CONFIG) from error


# Groups of commands for operators, besides `grader`, which also starts graders.
_OF_OPERATORS = {
    "audit",
    "backup",
    "course",
    "dead",
    "doctor",
    "migrate",
    "pool",
    "queue",
    "restore",
    "retention",
    "student",
    "topology",
}


@app.callback(invoke_without_command=True)
def _broadway(
    context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if context.invoked_subcommand in _OF_OPERATORS:
        adopt()
    if version:
        from broadway import __version__  # noqa: PLC0415 - --help must not wait for it

        terminal.line(__version__)
        raise typer.Exit


def _secret(text: str) -> Any:
    """Return an option for a token, whose default is not shown."""
    return typer.Option(help=text, show_default=False, callback=header_secret)


def _runtime_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise typer.BadParameter("expected auto, oci, docker, or the name of one of the engine's runtimes")
    return name


RuntimeName = Annotated[
    str,
    typer.Option(
        envvar="BROADWAY_RUNTIME",
        metavar="auto|oci|docker",
        help="Runtime of the graders: oci, which starts stages without an engine, docker, one of the engine's "
        "runtimes, or auto: oci if this machine can, else docker.",
        callback=_runtime_name,
    ),
]


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
    runtime: RuntimeName = "auto",
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
        runtime=runtime,
        json_ready=json_ready,
    )
    raise typer.Exit(asyncio.run(run_up(options)))


@app.command()
def health(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that the service was given as --health-file.")],
) -> None:
    """Print whether a service is ready, or its unavailable parts with time and reason; exit 1 if it is not ready.

    For supervisors of services without HTTP; the API has /readyz.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from broadway.readiness import judge  # noqa: PLC0415

    is_ready, sentence = judge(file, datetime.now(UTC))
    terminal.line(sentence)
    raise typer.Exit(0 if is_ready else EXIT_FAILED)


@configs.command("show", context_settings={"ignore_unknown_options": True})
def config_show(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROGRAM ARGUMENTS",
            help=f"The program, {services.NAMES}, by default api; then its own arguments.",
        ),
    ] = None,
    *,
    origin: Annotated[bool, typer.Option("--origin", help="Print the source of each value.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the settings of a program, as it would read them here with these arguments; secrets are masked."""
    from broadway.cli.config import show  # noqa: PLC0415

    show(arguments or [], origin=origin, as_json=as_json)

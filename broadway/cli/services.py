"""The services as commands, beside `python -m broadway.api` and so on: `broadway api`, `broadway grader`.

Their arguments are the settings of the service, which reads them itself.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

# By the name of the package of a service; tests/cli/test_services.py compares it with settings.programs.PROGRAMS, whose
# import would delay every command.
SERVICES = {
    "api": "the control plane in one process: ingest, dispatcher, results and notifier",
    "ingest": "the HTTP interfaces, the pages, and the gateway of graders",
    "dispatcher": "the service that hands jobs to graders and repairs",
    "results": "the service that records the reports of graders",
    "notifier": "the service that sends courses' callbacks",
    "grader": "a grader on this host, which runs jobs in containers",
}
NAMES = ", ".join(SERVICES)
GRADER = "grader"
START = "start"
_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


class GraderCommands(TyperGroup):
    """The commands on graders. Without a command, as in `broadway grader --slots 4`, the arguments start a grader."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_command = bool(args) and (not args[0].startswith("-") or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if is_command else [START, *args])


def add_to(app: typer.Typer, *, graders: typer.Typer) -> None:
    """Add a command for each service; that of the grader goes beside the commands on graders."""
    for name, task in SERVICES.items():
        owner, command = (graders, START) if name == GRADER else (app, name)
        about = f"Run {task}, until SIGTERM; `--help` lists its settings."
        owner.command(command, help=about, add_help_option=False, context_settings=_PASSED_ON)(_command(name))


def _command(name: str) -> Callable[[typer.Context], None]:
    def run(ctx: typer.Context) -> None:
        program = f"broadway {name}"
        sys.argv = [program, *ctx.args]
        import_module(f"broadway.{name}.__main__").main(program)

    return run

"""`broadway doctor`: the problems of a deployment, with advice."""

from collections.abc import Sequence
from typing import Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import AsJson, ca_file
from broadway.cli.services import NAMES

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROGRAM ARGUMENTS",
        help=f"The program whose settings have the addresses of the parts, {NAMES}, by default api; then its own "
        "arguments.",
    ),
]


def _management(address: str | None) -> str | None:
    """Return the address; typer names the option of one that is none, without the password in it."""
    from broadway.settings.values import check_address  # noqa: PLC0415 - --help must not wait for it

    if address is not None:
        try:
            check_address(address, ("http", "https"), "should be an address, as in http://user:password@host:15672")
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return address


ServerOfSettings = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="BROADWAY_SERVER",
        help="Address of the API; by default that in the program's settings: a grader's --api-host, or --bind-addr and "
        "--bind-port.",
        show_default=False,
    ),
]
ManagementUrl = Annotated[
    str | None,
    typer.Option(
        envvar="BROADWAY_MANAGEMENT_URL",
        help="RabbitMQ's management API, http(s)://user:password@host:port, to check for alarms.",
        show_default=False,
        callback=_management,
    ),
]
Within = Annotated[
    float,
    typer.Option(
        "--timeout", min=1, metavar="SECONDS", help="Time limit for each part; all are checked at the same time."
    ),
]


def doctor(
    arguments: Arguments = None,
    *,
    server: ServerOfSettings = None,
    management_url: ManagementUrl = None,
    within: Within = 5,
    as_json: AsJson = False,
) -> None:
    """Check every part from this host: a line for each, with advice; exit 1 if there is a problem.

    Changes nothing, and waits for each part no longer than --timeout.
    """
    import asyncio  # noqa: PLC0415 - --help must not wait for it
    import logging  # noqa: PLC0415

    import structlog  # noqa: PLC0415

    from broadway.cli.checks import examine  # noqa: PLC0415
    from broadway.cli.findings import Level  # noqa: PLC0415

    # The findings cover every unavailable part; log lines of libraries would repeat them.
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    program, rest = _split(arguments or [])
    findings = asyncio.run(examine(server, management_url, program, rest, ca_file=ca_file(), within=within))
    if as_json:
        terminal.document([{"check": f.check, "level": f.level, "text": f.text, "advice": f.advice} for f in findings])
    else:
        for finding in findings:
            advice = f"; {finding.advice}" if finding.advice else ""
            terminal.line(f"{finding.level:8} {finding.check:10} {finding.text}{advice}")
    raise typer.Exit(any(finding.level is Level.PROBLEM for finding in findings))


def _split(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    from broadway.settings.programs import PROGRAMS  # noqa: PLC0415

    is_named = bool(arguments) and arguments[0] in PROGRAMS
    return (arguments[0], arguments[1:]) if is_named else ("api", arguments)

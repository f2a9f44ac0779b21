"""`broadway topology ...`: the broker's exchanges, queues, bindings and policies, for operators."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_FAILED, EXIT_USAGE, AsJson, fail

if TYPE_CHECKING:
    from broadway.cli.topology_repair import Inspector, Report
    from broadway.settings.programs import ApiSettings

app = typer.Typer(
    help="The broker's exchanges, queues, bindings and policies. Needs RabbitMQ's management API.", no_args_is_help=True
)

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ARGUMENTS", help="Arguments of python -m broadway.api: --amqp-url, --management-url, --mongodb-dsn ..."
    ),
]
Shared = Annotated[
    bool, typer.Option("--shared", help="Only the objects of every deployment; do not read the courses in the store.")
]
PASSED_ON = {"ignore_unknown_options": True}


@app.command(context_settings=PASSED_ON)
def show(arguments: Arguments = None, *, shared: Shared = False, as_json: AsJson = False) -> None:
    """Print the objects that the broker should have; with --json, as a definitions file that RabbitMQ imports."""
    import asyncio  # noqa: PLC0415 - --help must not wait for it

    from broadway.cli.topology_repair import OLDEST, expected_queues  # noqa: PLC0415
    from broadway.management import virtual_host  # noqa: PLC0415
    from broadway.messages.definitions import Kind, definitions, name  # noqa: PLC0415

    settings = _settings(arguments)
    with _failures():
        queues = asyncio.run(expected_queues(settings, shared=shared))
    vhost = virtual_host(settings.amqp_url.get_secret_value())
    expected = definitions(queues, vhost=vhost, version=OLDEST)
    if as_json:
        terminal.document(expected)
        return
    from broadway.cli.tables import topology_table  # noqa: PLC0415

    topology_table([(kind.noun, name(kind, each), each) for kind in Kind for each in expected[kind]])


@app.command(context_settings=PASSED_ON)
def check(arguments: Arguments = None, *, shared: Shared = False, as_json: AsJson = False) -> None:
    """List missing and differing objects; exit 1 if there are any. Changes nothing."""
    _print(_inspect(arguments, lambda broker: broker.check(), shared=shared), as_json=as_json)


@app.command(context_settings=PASSED_ON)
def apply(arguments: Arguments = None, *, shared: Shared = False, as_json: AsJson = False) -> None:
    """Create missing objects, including the virtual host and the services' user, and correct policies.

    Deletes nothing, so no message is lost. Lists the differences that only a deletion would repair, with exit 1.
    """
    _print(_inspect(arguments, lambda broker: broker.apply(), shared=shared), as_json=as_json)


def _inspect(
    arguments: Sequence[str] | None, work: "Callable[[Inspector], Coroutine[Any, Any, Report]]", *, shared: bool
) -> "Report":
    import asyncio  # noqa: PLC0415

    from broadway.cli.topology_repair import Inspector, expected_queues  # noqa: PLC0415

    settings = _settings(arguments)
    if settings.management_url is None:
        where = "--management-url or BROADWAY_MANAGEMENT_URL, as in http://user:password@host:15672"
        raise fail(f"management_url is missing: {where}, with an administrator's login", EXIT_USAGE)
    url = settings.management_url.get_secret_value()

    async def inspect() -> "Report":
        queues = await expected_queues(settings, shared=shared)
        async with Inspector.connect(url, settings, queues) as broker:
            return await work(broker)

    with _failures():
        return asyncio.run(inspect())


def _print(report: "Report", *, as_json: bool) -> None:
    if as_json:
        drifts = [
            {"kind": d.kind.noun, "name": d.name, "problem": str(d), "wanted": d.wanted, "found": d.found}
            for d in report.drifts
        ]
        terminal.document({"access": report.access, "drifts": drifts, "left_over": report.left_over})
    else:
        for line in _lines(report):
            terminal.line(line)
    raise typer.Exit(0 if report.is_clean else EXIT_FAILED)


def _lines(report: "Report") -> Iterator[str]:
    yield from report.access
    for drift in report.drifts:
        advice = (
            "`apply` repairs it" if drift.can_be_repaired else "delete it when it is empty, with all services stopped"
        )
        yield f"{drift}; {advice}"
    for queue in report.left_over:
        yield f"queue {queue} belongs to no course or pool any more: delete it once it is empty"
    if report.is_clean:
        yield "the broker has all that it should have"


def _settings(arguments: Sequence[str] | None) -> "ApiSettings":
    from broadway.settings.loading import load  # noqa: PLC0415
    from broadway.settings.programs import ApiSettings  # noqa: PLC0415

    return load(ApiSettings, prog="python -m broadway.api", arguments=arguments or [])


@contextmanager
def _failures() -> Iterator[None]:
    from broadway.management import ManagementError  # noqa: PLC0415
    from broadway.mongo.store import StoreUnreachableError  # noqa: PLC0415
    from broadway.ports import StoreError  # noqa: PLC0415

    try:
        yield
    except (ManagementError, StoreUnreachableError, StoreError) as error:
        raise fail(str(error)) from error

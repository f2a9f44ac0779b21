"""`broadway topology ...`: the broker's exchanges, queues, bindings and policies, for operators."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.broker_access import PASSED_ON, Arguments, failures, management_of, settings_of
from broadway.cli.common import EXIT_FAILED, AsJson

if TYPE_CHECKING:
    from broadway.cli.topology_repair import Inspector, Report

app = typer.Typer(
    help="The broker's exchanges, queues, bindings and policies. Needs RabbitMQ's management API.", no_args_is_help=True
)

Shared = Annotated[
    bool, typer.Option("--shared", help="Only the objects of every deployment; do not read the courses in the store.")
]


@app.command(context_settings=PASSED_ON)
def show(arguments: Arguments = None, *, shared: Shared = False, as_json: AsJson = False) -> None:
    """Print the objects that the broker should have; with --json, as a definitions file that RabbitMQ imports."""
    import asyncio  # noqa: PLC0415 - --help must not wait for it

    from broadway.cli.topology_repair import OLDEST, expected_queues  # noqa: PLC0415
    from broadway.management import virtual_host  # noqa: PLC0415
    from broadway.messages.definitions import Kind, definitions, name  # noqa: PLC0415

    settings = settings_of(arguments)
    with failures():
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

    settings = settings_of(arguments)
    url = management_of(settings)

    async def inspect() -> "Report":
        queues = await expected_queues(settings, shared=shared)
        async with Inspector.connect(url, settings, queues) as broker:
            return await work(broker)

    with failures():
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

"""`broadway queue ...`: the messages of the broker's queues, and the jobs that they stand for."""

from typing import Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.broker_access import PASSED_ON, Arguments, failures, management_of, settings_of
from broadway.cli.common import AsJson, fail

app = typer.Typer(help="The broker's queues. Needs RabbitMQ's management API and the store.", no_args_is_help=True)


@app.command("list", context_settings=PASSED_ON)
def list_queues(arguments: Arguments = None, *, as_json: AsJson = False) -> None:
    """List queues with their messages; with the jobs of a course's queues, whose messages have up to 50 jobs each."""
    import asyncio  # noqa: PLC0415 - --help must not wait for it

    from broadway.cli.queue_states import queue_states  # noqa: PLC0415

    settings = settings_of(arguments)
    management = management_of(settings)
    with failures():
        states = asyncio.run(queue_states(settings, management))
    rows: list[dict[str, Any]] = [state.row for state in states]
    if as_json:
        terminal.document(rows)
        return
    from broadway.cli.tables import queue_table  # noqa: PLC0415

    queue_table(rows)


@app.command(context_settings=PASSED_ON)
def show(
    name: Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue, as `list` shows it.")],
    arguments: Arguments = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show one queue: its messages, its state at the broker, its consumers, and the age of its oldest job."""
    import asyncio  # noqa: PLC0415 - --help must not wait for it

    from broadway.cli.queue_states import queue_detail  # noqa: PLC0415

    settings = settings_of(arguments)
    management = management_of(settings)
    with failures():
        found = asyncio.run(queue_detail(settings, management, name))
    if found is None:
        raise fail(f"the broker has no queue {name}; `broadway queue list` shows those that it has")
    if as_json:
        terminal.document(found.row)
        return
    from broadway.cli.tables import fields_table, records_table  # noqa: PLC0415

    row = found.row
    consumers = row.pop("consumed_by")
    fields_table(row)
    if consumers:
        records_table(consumers, list(consumers[0]))

"""`broadway pool ...`: pools of graders, for operators."""

from enum import StrEnum
from typing import Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import LOCAL, AsJson, OperatorToken, Server, operator

app = typer.Typer(help="Pools of graders.", no_args_is_help=True)


class Switch(StrEnum):
    """The position of a switch."""

    ON = "on"
    OFF = "off"


Target = Annotated[
    float | None,
    typer.Option(min=1, max=86_400, help="Seconds within which waiting jobs should start; 60 by default."),
]


@app.command("list")
def list_pools(
    *, target: Target = None, token: OperatorToken = None, server: Server = LOCAL, as_json: AsJson = False
) -> None:
    """List the pools, with their slots, jobs and courses, and with the graders that have no secret."""
    with operator(server, token) as api:
        found = api.pools(target=target)
    if as_json:
        terminal.document(found)
        return
    from broadway.cli.tables import pool_table  # noqa: PLC0415 - --help must not wait for it

    pool_table(found)


@app.command("show")
def show_pool(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.")],
    *,
    target: Target = None,
    token: OperatorToken = None,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Print a pool with its load, and the number of slots that it asks for."""
    with operator(server, token) as api:
        found = api.pool(pool, target=target)
    if as_json:
        terminal.document(found)
        return
    from broadway.cli.tables import fields_table  # noqa: PLC0415 - --help must not wait for it

    flat = {key: value for key, value in found.items() if not isinstance(value, dict)}
    of_parts = {f"{part} {key}": value for part in ("slots", "jobs") for key, value in found.get(part, {}).items()}
    fields_table(flat | of_parts)


@app.command("set")
def set_pool(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.")],
    *,
    original_graders: Annotated[
        Switch,
        typer.Option(
            help="Whether it admits graders without a secret, such as the original's, with the cluster token."
        ),
    ],
    token: OperatorToken = None,
    server: Server = LOCAL,
) -> None:
    """Change a pool."""
    with operator(server, token) as api:
        changed = api.set_pool(pool, original_graders=original_graders is Switch.ON)
    verb = "admits" if changed["original_graders"] else "refuses"
    terminal.line(f"pool {changed['id']} {verb} graders without a secret")

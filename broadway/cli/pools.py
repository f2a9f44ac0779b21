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


@app.command("list")
def list_pools(*, token: OperatorToken = None, server: Server = LOCAL, as_json: AsJson = False) -> None:
    """List the pools, with their courses and with the graders that have no secret."""
    with operator(server, token) as api:
        found = api.pools()
    if as_json:
        terminal.document(found)
        return
    from broadway.cli.tables import pool_table  # noqa: PLC0415 - --help must not wait for it

    pool_table(found)


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

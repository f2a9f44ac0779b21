"""`broadway grader token ...`: tokens with which new graders join, for operators."""

from typing import Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import LOCAL, AsJson, OperatorToken, Server, operator

app = typer.Typer(help="Tokens with which new graders join.", no_args_is_help=True)

SECONDS_OF_A_DAY = 24 * 3600

Pools = Annotated[
    list[str] | None, typer.Option("--pool", help="A pool that it admits to; may be repeated; all pools by default.")
]
Uses = Annotated[int | None, typer.Option(min=1, max=10_000, help="New graders that it admits; any number by default.")]
Days = Annotated[float | None, typer.Option(min=0.001, max=3650, help="Days until it expires; never by default.")]
Name = Annotated[str, typer.Option(help="A note, such as the hosts that it is for.", show_default=False)]


@app.command()
def create(
    *,
    pools: Pools = None,
    uses: Uses = None,
    days: Days = None,
    name: Name = "",
    token: OperatorToken = None,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Make a join token, and print it; it is shown only once."""
    valid_for = None if days is None else max(1, round(days * SECONDS_OF_A_DAY))
    with operator(server, token) as api:
        made = api.make_join_token(pools=pools or None, uses=uses, valid_for=valid_for, name=name)
    if as_json:
        terminal.document(made)
        return
    terminal.message(f"join token {made['id']}; it is not shown again")
    terminal.line(made["token"])


@app.command("list")
def list_tokens(*, token: OperatorToken = None, server: Server = LOCAL, as_json: AsJson = False) -> None:
    """List the join tokens, with the graders that have used them, latest first."""
    with operator(server, token) as api:
        found = api.join_tokens()
    if as_json:
        terminal.document(found)
        return
    from broadway.cli.tables import join_token_table  # noqa: PLC0415 - --help must not wait for it

    join_token_table(found)


@app.command()
def revoke(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id, as `list` shows it.")],
    *,
    token: OperatorToken = None,
    server: Server = LOCAL,
) -> None:
    """Revoke a join token: no further grader joins with it; those that have joined keep their secrets."""
    with operator(server, token) as api:
        api.revoke_join_token(identity)
    terminal.line(f"join token {identity} is revoked")

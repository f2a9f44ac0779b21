"""`broadway grader ...`: the cluster's graders, for operators."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import join_tokens, terminal
from broadway.cli.common import LOCAL, AsJson, OperatorToken, Server, Yes, confirm, operator
from broadway.cli.services import START, GraderCommands
from broadway.local.up_variables import adopt

if TYPE_CHECKING:
    from broadway.client import GraderDescription

app = typer.Typer(
    help="The cluster's graders; without a command, run a grader on this host with the given settings.",
    cls=GraderCommands,
)
app.add_typer(join_tokens.app, name="token")


@app.callback()
def _graders(context: typer.Context) -> None:
    if context.invoked_subcommand != START:  # a grader must not get the rights of services
        adopt()


GraderId = Annotated[str, typer.Argument(metavar="GRADER_ID", help="The grader's id.")]
Reason = Annotated[str, typer.Option(help="Reason, to be shown with the grader.", show_default=False)]


@app.command("list")
def list_graders(*, token: OperatorToken = None, server: Server = LOCAL, as_json: AsJson = False) -> None:
    """List every grader that ever joined, with its state and its running jobs."""
    with operator(server, token) as api:
        graders = api.graders()
    _print(graders, as_json=as_json)


@app.command()
def show(grader_id: GraderId, *, token: OperatorToken = None, server: Server = LOCAL, as_json: AsJson = False) -> None:
    """Show one grader and its running jobs."""
    with operator(server, token) as api:
        grader = api.grader(grader_id)
    if as_json:
        terminal.document(grader.model_dump(mode="json"))
        return
    from broadway.cli.tables import fields_table  # noqa: PLC0415

    fields_table(grader.model_dump(mode="json"))


@app.command()
def pause(grader_id: GraderId, *, reason: Reason = "", token: OperatorToken = None, server: Server = LOCAL) -> None:
    """Pause a grader: it takes no jobs until it is resumed; its running jobs continue."""
    _order(server, token, grader_id, "pause", reason=reason)


@app.command()
def resume(grader_id: GraderId, *, token: OperatorToken = None, server: Server = LOCAL) -> None:
    """Resume a grader: it takes jobs again."""
    _order(server, token, grader_id, "resume")


@app.command()
def drain(grader_id: GraderId, *, reason: Reason = "", token: OperatorToken = None, server: Server = LOCAL) -> None:
    """Drain a grader: it finishes its running jobs and takes no others, even after a restart, until it is resumed."""
    _order(server, token, grader_id, "drain", reason=reason)


@app.command("set-slots")
def set_slots(
    grader_id: GraderId,
    slots: Annotated[
        int,
        typer.Argument(
            metavar="SLOTS", min=0, max=512, help="Jobs at a time; 0 for the number that it was started with."
        ),
    ],
    *,
    token: OperatorToken = None,
    server: Server = LOCAL,
) -> None:
    """Change how many jobs a grader runs at a time."""
    _order(server, token, grader_id, "slots", slots=slots or None)


@app.command()
def revoke(
    grader_id: GraderId, *, reason: Reason = "", yes: Yes = False, token: OperatorToken = None, server: Server = LOCAL
) -> None:
    """Revoke a grader: remove its login, give its jobs to other graders, and refuse to let it join again."""
    confirm(f"revoke grader {grader_id}", yes=yes)
    _order(server, token, grader_id, "revoke", reason=reason)


@app.command()
def readmit(grader_id: GraderId, *, token: OperatorToken = None, server: Server = LOCAL) -> None:
    """Let a revoked grader join again."""
    _order(server, token, grader_id, "readmit")


@app.command("forget-secret")
def forget_secret(grader_id: GraderId, *, token: OperatorToken = None, server: Server = LOCAL) -> None:
    """Forget a grader's secret, if its work directory is lost: its next join needs a token, and makes a new secret.

    If a secret may be stolen, revoke the grader first.
    """
    with operator(server, token) as api:
        grader = api.order(grader_id, "forget-secret")
    terminal.line(f"{grader.id} has no secret now; it joins again with a join token or the cluster token")


@app.command()
def forget(grader_id: GraderId, *, yes: Yes = False, token: OperatorToken = None, server: Server = LOCAL) -> None:
    """Forget a grader that is gone and will not come back: it is no longer listed, and its secret no longer counts.

    A live grader is refused. One that comes back later joins as a new one, with a join token or the cluster token.
    """
    confirm(f"forget grader {grader_id}", yes=yes)
    with operator(server, token) as api:
        api.forget(grader_id)
    terminal.line(f"{grader_id} is forgotten")


def _order(server: str, token: str | None, grader_id: str, verb: str, **parameters: Any) -> None:
    with operator(server, token) as api:
        grader = api.order(grader_id, verb, **parameters)
    slots = f", {grader.wanted.slots} slots" if grader.wanted.slots else ""
    terminal.line(f"{grader.id} is {grader.state}; wanted: {grader.wanted.mode}{slots}")


def _print(graders: "list[GraderDescription]", *, as_json: bool) -> None:
    if as_json:
        terminal.document([grader.model_dump(mode="json") for grader in graders])
        return
    from broadway.cli.tables import grader_table  # noqa: PLC0415

    grader_table(graders)

"""`broadway dead ...`: messages that no service could handle, for operators."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_USAGE, LOCAL, AsJson, OperatorToken, Server, Yes, confirm, fail, operator

if TYPE_CHECKING:
    from broadway.client import Operator

app = typer.Typer(help="Messages that no service could handle.", no_args_is_help=True)

_OF_LETTER = (404, 409)  # statuses of refusals that concern one letter

Limit = Annotated[int, typer.Option(min=1, max=500, help="Number of dead letters, latest first.")]


@app.command("list")
def list_letters(
    *, limit: Limit = 50, token: OperatorToken = None, server: Server = LOCAL, as_json: AsJson = False
) -> None:
    """List dead letters, each with its subject, its queue and the reason."""
    with operator(server, token) as api:
        found = api.dead_letters(limit=limit)
    if as_json:
        terminal.document(found)
        return
    from broadway.cli.tables import letter_table  # noqa: PLC0415 - --help must not wait for it

    letter_table(found)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="Id, as `list` shows it.")],
    *,
    token: OperatorToken = None,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter, with its body."""
    with operator(server, token) as api:
        found = api.dead_letter(letter)
    if as_json:
        terminal.document(found)
        return
    from broadway.cli.tables import fields_table  # noqa: PLC0415

    fields_table(found)


@app.command()
def retry(
    letters: Annotated[list[str] | None, typer.Argument(metavar="IDS", help="Ids, as `list` shows them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Retry all dead letters that are about jobs.")] = False,
    yes: Yes = False,
    token: OperatorToken = None,
    server: Server = LOCAL,
    as_json: AsJson = False,
) -> None:
    """Run the jobs again that ended by dead letters, and remove these letters. Repair the cause first.

    Exits with 1 if a letter is about no job, or if a run refuses; such a letter stays.
    """
    if every is bool(letters):
        raise fail("name dead letters, or say --all", EXIT_USAGE)
    confirm(f"run the jobs of {'dead letter ' + ' '.join(letters) if letters else 'all dead letters'} again", yes=yes)
    with operator(server, token) as api:
        results, problems = _retry(api, letters or [each["id"] for each in api.dead_letters()])
    if as_json:
        terminal.document(results)
    else:
        for result in results:
            count, others = len(result["jobs"]), len(result["unchanged"])
            terminal.line(f"{result['letter']}: {count} jobs run again, {others} were left as they are")
    if problems:
        raise fail("\n".join(problems))


def _retry(api: "Operator", letters: Iterable[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Retry letters, each for itself; return the results, and the reasons of those that stay."""
    from broadway.client import ClientError  # noqa: PLC0415 - --help must not wait for it

    results, problems = list[dict[str, Any]](), list[str]()
    for letter in letters:
        try:
            result = api.retry(letter)
        except ClientError as error:
            if error.status not in _OF_LETTER:
                raise
            problems.append(f"{letter}: {error}")
        else:
            results.append(result)
            problems += [f"{letter}: {reason}" for reason in result["refused"]]
    return results, problems


@app.command()
def discard(
    letters: Annotated[list[str] | None, typer.Argument(metavar="IDS", help="Ids, as `list` shows them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Discard all dead letters.")] = False,
    yes: Yes = False,
    token: OperatorToken = None,
    server: Server = LOCAL,
) -> None:
    """Discard dead letters whose cause is repaired; `broadway job rerun` runs their jobs again."""
    if every is bool(letters):
        raise fail("name dead letters, or say --all", EXIT_USAGE)
    confirm(f"discard {'dead letter ' + ' '.join(letters) if letters else 'all dead letters'}", yes=yes)
    count = 0
    with operator(server, token) as api:
        while chosen := letters or [letter["id"] for letter in api.dead_letters()]:
            for letter in chosen:
                api.discard(letter)
            count += len(chosen)
            if letters:
                break
    terminal.line(f"{count} dead letters discarded")

"""The parser of `broadway`: tests run the command hundreds of times, and most commands take less time than it."""

from functools import cache

import typer.main
import typer.testing


def build_once() -> None:
    """Build the parser of each application once in this process, and not for each command."""
    typer.main.get_command = cache(typer.main.get_command)
    typer.testing._get_command = typer.main.get_command  # type: ignore[attr-defined]  # noqa: SLF001

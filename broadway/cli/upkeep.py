"""`broadway migrate`, `broadway backup` and `broadway restore`, for operators: the store as a whole."""

from pathlib import Path
from typing import Annotated

import typer

from broadway.cli.common import AsJson

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ARGUMENTS", help="Arguments of python -m broadway.api that name the store: --mongodb-dsn and others."
    ),
]
Up = Annotated[
    Path | None,
    typer.Option(
        "--up",
        metavar="DIRECTORY",
        help="Directory of a `broadway up` that does not run: its store runs meanwhile.",
        file_okay=False,
        show_default=False,
    ),
]


def migrate(
    arguments: Arguments = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the pending migrations of the store, and print all; services make them too, when they start."""
    from broadway.cli.migrate import migrate as run  # noqa: PLC0415 - --help must not wait for it

    run(arguments, dry_run=dry_run, as_json=as_json)


def backup(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="The directory to make; it must not exist.", show_default=False)
    ],
    arguments: Arguments = None,
    *,
    up: Up = None,
    as_json: AsJson = False,
) -> None:
    """Copy all documents of the store to a new directory, while services run.

    The backup has hashes of tokens and the secrets of hooks, so only its owner can read it.
    """
    from broadway.cli.backups import backup as run  # noqa: PLC0415

    run(directory, arguments, up=up, as_json=as_json)


def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="A backup.", show_default=False)],
    arguments: Arguments = None,
    *,
    up: Up = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only read the backup and compare its digests; needs no store.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty store, while no service runs. One that was interrupted can be repeated."""
    from broadway.cli.backups import restore as run  # noqa: PLC0415

    run(directory, arguments, up=up, check=check, as_json=as_json)

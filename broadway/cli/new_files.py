"""Files that commands read and make: whole ones, which never replace others."""

import os
from pathlib import Path
from secrets import token_hex

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_USAGE, fail


def read_bytes(file: Path, *, most: int) -> bytes:
    """Return the bytes of a file, or of standard input if it is ``-``; end the command if it cannot be read."""
    if str(file) == "-":
        return terminal.standard_input()
    try:
        with file.open("rb") as source:
            data = source.read(most + 1)
    except OSError as error:
        raise fail(f"{file}: {error.strerror}") from error
    if len(data) > most:
        raise fail(f"{file}: expected a file of at most {most // 2**20} MiB")
    return data


def check_new(*files: Path | None) -> None:
    """Return if no file exists; end the command otherwise, before it does anything."""
    for file in files:
        if file is not None and os.path.lexists(file):
            raise _existing(file)


def write_new(file: Path, data: bytes) -> None:
    """Write a new file, which has its name only once it is whole; end the command if that cannot be."""
    draft = file.with_name(f".{file.name}.{token_hex(4)}")
    try:
        with draft.open("xb") as output:
            output.write(data)
        os.link(draft, file)  # fails if the file exists
    except FileExistsError:
        raise _existing(file) from None
    except OSError as error:
        raise fail(f"{file}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _existing(file: Path) -> typer.Exit:
    return fail(f"{file} exists; remove it, or name another file", EXIT_USAGE)

"""The common parts of commands: options, connections to the API, exit codes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from broadway.client import Client, Operator

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_ALLOWED = 1, 2, 4
UNAUTHORIZED = 401

Server = Annotated[str, typer.Option("--server", envvar="BROADWAY_SERVER", help="Address of the API.")]
Course = Annotated[str, typer.Option("--course", "-c", envvar="BROADWAY_COURSE", help="The course's id.")]
Token = Annotated[
    str, typer.Option("--token", envvar="BROADWAY_COURSE_TOKEN", help="One of the course's tokens.", show_default=False)
]
OperatorToken = Annotated[
    str,
    typer.Option(
        "--token",
        envvar=["BROADWAY_OPERATOR_TOKEN", "BROADWAY_TOKEN"],
        help="The operators' token, which the API has as --operator-token.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

CA_FILE = "BROADWAY_CA_FILE"  # an environment variable, since it is the same for every command
LOCAL = "http://127.0.0.1:1470"


@contextmanager
def client(server: str, course: str, token: str) -> Iterator["Client"]:
    """Connect to the API for a course. An error ends the command with a line and an exit code."""
    from broadway.client import Client, ClientError  # noqa: PLC0415 - --help must not wait for it

    try:
        with Client.connect(server, course=course, token=token, ca_file=ca_file()) as connected:
            yield connected
    except ClientError as error:
        print(f"broadway: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_NOT_ALLOWED if error.status == UNAUTHORIZED else EXIT_FAILED) from error


@contextmanager
def operator(server: str, token: str) -> Iterator["Operator"]:
    """Connect to the API for an operator, with the operators' token. Errors end the command as those of `client` do."""
    from broadway.client import ClientError, Operator  # noqa: PLC0415

    try:
        with Operator.connect(server, token=token, ca_file=ca_file()) as connected:
            yield connected
    except ClientError as error:
        raise fail(str(error), EXIT_NOT_ALLOWED if error.status == UNAUTHORIZED else EXIT_FAILED) from error


def ca_file() -> Path | None:
    """Return the file of authorities to trust besides the system's, or None if the environment names no file."""
    file = os.environ.get(CA_FILE)
    if file and not Path(file).is_file():
        raise fail(f"{CA_FILE}: {file}: no such file", EXIT_USAGE)
    return Path(file) if file else None


def fail(reason: str, code: int = EXIT_FAILED) -> typer.Exit:
    """Print the reason, and return the exception that ends the command."""
    print(f"broadway: {reason}", file=sys.stderr)
    return typer.Exit(code)

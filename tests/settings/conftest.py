"""The parser of each program is built once for all tests, since it takes longer than reading a command line with it."""

from collections.abc import Iterator, Sequence
from functools import cache

import pytest
from pydantic_settings import BaseSettings

from broadway.settings.command_line import CommandLine


@cache
def _built(kind: type[BaseSettings], prog: str) -> CommandLine:
    return CommandLine(kind, prog=prog, arguments=[])


def _read(kind: type[BaseSettings], *, prog: str, arguments: Sequence[str]) -> CommandLine:
    command = _built(kind, prog)
    command.config_file = None
    command(args=list(arguments))
    return command


@pytest.fixture(scope="module", autouse=True)
def _parsers_are_built_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broadway.settings.loading.CommandLine", _read)
        yield

"""Finds commands in running text and tables, such as `broadway run show RUN --json`, that the parser does not know."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from documents.links import inlines
from documents.reading import ROOT, name
from typer.main import get_command

from broadway.cli.app import app

_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def unknown_commands(path: Path) -> list[str]:
    """Return a line for each command in running text with a word or an option that does not exist."""
    return [
        f"{name(path)}:{line}: {part.content}: {problem}"
        for line, parts in inlines(path)
        for part in parts
        if part.type == "code_inline"
        for problem in _problems(part.content)
    ]


def _problems(text: str) -> Iterator[str]:
    program, *words = re.sub(r"[\[\]]|\.\.\.|…", " ", text).split()[:12] or [""]
    if program == "make" and words:
        targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
        yield from (f"no target {word}" for word in words if word.isalpha() and word.islower() and word not in targets)
    elif program == "broadway" and words:
        yield from _of(_parser(), words)


@cache
def _parser() -> Any:
    return get_command(app)


def _of(command: Any, words: list[str]) -> Iterator[str]:
    """Follow the subcommands as far as they go, and check the options of the last."""
    commands = getattr(command, "commands", None)
    if not words:
        return
    if commands is None or words[0].startswith("-"):
        known = {option for parameter in command.params for option in parameter.opts} | set(
            command.context_settings.get("help_option_names", ["--help"])
        )
        for word in words:
            option = word.partition("=")[0]
            if option.startswith("--") and option not in known and not command.ignore_unknown_options:
                yield f"no option {option}"
        return
    first, *rest = words
    for each in first.split("|"):
        if each in commands:
            yield from _of(commands[each], rest)
        elif each.islower():
            yield f"no command {each}"

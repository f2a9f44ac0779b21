"""Reading a program's settings, and reporting the mistakes in them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from broadway.domain.mistakes import sentence
from broadway.runtime.visible import visible_line
from broadway.settings.command_line import CommandLine
from broadway.settings.setting_names import Leaf, LeafPath, leaves
from broadway.settings.sources import ConfigError, ConfigFile, Environment, unknown

EX_USAGE, EX_CONFIG = 2, 78

AnySettings = TypeVar("AnySettings", bound=BaseSettings)
Source = CommandLine | Environment | ConfigFile


@dataclass(frozen=True, slots=True)
class Loaded(Generic[AnySettings]):
    """Settings, with the source of each value."""

    settings: AnySettings
    sources: Sequence[Source]

    def value(self, leaf: Leaf) -> Any:
        value: Any = self.settings
        for name in leaf.path:
            value = getattr(value, name)
        return value

    def origin(self, leaf: Leaf) -> str:
        """Return a value's source.

        Such as `command line --bind-port`, `environment BROADWAY_BIND_PORT`, `file x.json: bind_port` or `default`.
        """
        source = _source(self.sources, leaf.path)
        return source.origin + source.name(leaf.path) if source else "default"


def load(kind: type[AnySettings], *, prog: str, arguments: Sequence[str] | None = None) -> AnySettings:
    """Read a program's settings; by default the arguments are those of this process."""
    return read(kind, prog=prog, arguments=sys.argv[1:] if arguments is None else arguments).settings


def read(kind: type[AnySettings], *, prog: str, arguments: Sequence[str]) -> Loaded[AnySettings]:
    """Read settings from the command line, the environment and the config file that the command line names.

    Invalid settings end the program, with a line for each mistake on stderr: exit code 2 for mistakes on the command
    line, 78 for mistakes in the environment or the config file only.
    """
    command = CommandLine(kind, prog=prog, arguments=arguments)
    sources: list[Source] = [command]
    try:
        sources.append(Environment(kind))
        if command.config_file is not None:
            sources.append(ConfigFile(kind, command.config_file))
        settings = kind(_build_sources=(tuple(sources), {}))
    except ConfigError as error:
        _refuse(command, EX_CONFIG, [str(error)])
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False)
        origins = {_source(sources, mistake["loc"]) for mistake in mistakes}
        code = EX_USAGE if origins & {command, None} else EX_CONFIG
        _refuse(command, code, [_readable(kind, sources, mistake) for mistake in mistakes])
    return Loaded(settings, sources)


def _refuse(command: CommandLine, code: int, lines: Sequence[str]) -> NoReturn:
    parser = command.root_parser
    if code == EX_USAGE:
        parser.print_usage(sys.stderr)
    sys.stderr.writelines(f"{parser.prog}: error: {visible_line(line)}\n" for line in lines)
    raise SystemExit(code)


def _readable(kind: type[BaseSettings], sources: Sequence[Source], mistake: ErrorDetails) -> str:
    path = mistake["loc"]
    source = _source(sources, path)
    if source and mistake["type"] == "value_error" and all(each.path != path for each in leaves(kind)):
        return _of_section(kind, sources, mistake)
    if source is None:
        leaf = next(each for each in leaves(kind) if each.path == path)
        if mistake["type"] == "value_error":  # the default does not fit the given values
            return f"{leaf.flag}: {sentence(mistake)}"
        return f"{leaf.flag} is missing: give an argument, {leaf.variable}, or {leaf.key} in the config file"
    if mistake["type"] == "extra_forbidden":
        siblings = [source.name(each.path) for each in leaves(kind) if each.path[:-1] == path[:-1]]
        return f"{source.mistake}{source.name(path)}: {unknown(source.name(path), siblings)}"
    return f"{source.mistake}{source.name(path)}: {sentence(mistake)}"


def _of_section(kind: type[BaseSettings], sources: Sequence[Source], mistake: ErrorDetails) -> str:
    """Return the words for values of a section that do not fit one another."""
    path = mistake["loc"]
    within = [each.path for each in leaves(kind) if each.path[: len(path)] == path]
    given = [(source, leaf) for leaf in within if (source := _source(sources, leaf))]
    names = ", ".join(source.name(leaf) for source, leaf in given)
    return f"{given[0][0].mistake}{names}: {sentence(mistake)}"


def _source(sources: Sequence[Source], path: LeafPath) -> Source | None:
    """Return the source of a value, or None for a default."""
    return next((source for source in sources if _has(source(), path)), None)


def _has(data: Mapping[str, Any], path: LeafPath) -> bool:
    node: Any = data
    for name in path:
        if not isinstance(node, Mapping) or name not in node:
            return False
        node = node[name]
    return True

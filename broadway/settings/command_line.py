"""The command line of a program: pydantic-settings fills an argparse parser, with the conventions of this project."""

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, CliSettingsSource

from broadway.settings.setting_names import IN_FILE, Leaf, LeafPath, leaves

CONFIG = "config"

_BOOLEAN = TypeAdapter(bool)
_EPILOG = (
    "The command line takes precedence over the environment, the environment over the config file, and the file over "
    "the default. CONFIG, a JSON file, is the last argument. A BOOL flag alone means true; `--x no`, `--x=no` and "
    "`--no-x` mean false. A long flag may be abbreviated as long as no other begins with the abbreviation."
)
_EPILOG_ON_CONFIG = " Of three arguments the last is CONFIG; of fewer, the last is CONFIG if it ends in .json."


class CommandLine(CliSettingsSource[ArgumentParser]):
    """Flags and arguments. Invalid ones end the program with exit code 2 and the usage."""

    origin, mistake = "command line ", ""

    def __init__(self, kind: type[BaseSettings], *, prog: str, arguments: Sequence[str]) -> None:
        found = list(leaves(kind))
        self.config_file: str | None = None
        self._leaves = {".".join(leaf.path): leaf for leaf in found}
        self._positionals = [leaf.path[0] for leaf in found if leaf.positional]
        self._booleans: dict[str, str] = {}  # each form of a flag, with its long form
        super().__init__(
            kind,
            root_parser=self._parser(prog, kind.__doc__),
            add_argument_method=self._add,
            parse_args_method=self._parse,
            cli_avoid_json=True,
        )
        self.root_parser.add_argument(
            CONFIG, nargs="?", metavar=CONFIG.upper(), help="config file: a JSON object, names as in [file ...] below"
        )
        self(args=list(arguments))

    def name(self, path: LeafPath) -> str:
        return self._leaves[".".join(str(part) for part in path)].flag

    def _parser(self, prog: str, about: str | None) -> ArgumentParser:
        arguments = [f"[{name.upper()}]" for name in (*self._positionals, CONFIG)]
        return ArgumentParser(
            prog=prog,
            usage=f"{prog} [-h] [flags] {' '.join(arguments)}",
            description=about,
            epilog=_EPILOG + (_EPILOG_ON_CONFIG if self._positionals else ""),
        )

    def _add(self, parser: ArgumentParser, *names: str, **options: Any) -> None:
        """Add the argument that pydantic-settings made of a field; a whole section has no flag."""
        leaf = self._leaves.get(options.get("dest", names[0]))
        if leaf and leaf.positional:
            parser.add_argument(*names, **options | {"metavar": leaf.flag, "help": _help(leaf)})
        elif leaf:
            self._add_flag(parser, leaf, options | {"metavar": leaf.type.upper(), "help": _help(leaf)})

    def _add_flag(self, parser: ArgumentParser, leaf: Leaf, options: dict[str, Any]) -> None:
        flags = [flag for flag in (leaf.names.short, leaf.flag) if flag]
        if leaf.type == "bool":
            self._booleans |= dict.fromkeys(flags, leaf.flag)
            options |= {"nargs": "?", "const": "true"}
            negation = f"--no-{leaf.flag.removeprefix('--')}"
            parser.add_argument(
                negation, dest=options["dest"], action="store_const", const="false", default=SUPPRESS, help=SUPPRESS
            )
        parser.add_argument(*flags, **options)

    def _parse(self, parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
        flags, rest = _split(arguments)
        parsed = parser.parse_intermixed_args(list(self._with_values(flags)))
        names = (*self._positionals, CONFIG)
        given = [vars(parsed).pop(name) for name in names]
        given = [value for value in given if value not in (None, PydanticUndefined)] + rest
        if len(given) > len(names):
            parser.error(f"unrecognized arguments: {' '.join(given[len(names) :])}")
        if given and (len(given) == len(names) or given[-1].endswith(".json")):
            self.config_file = given.pop()
        vars(parsed).update(zip(self._positionals, given, strict=False))
        return parsed

    def _with_values(self, arguments: Sequence[str]) -> Iterator[str]:
        """Join each boolean flag with its value, since argparse would take any next argument as the value."""
        words = deque(arguments)
        while words:
            word = words.popleft()
            if flag := self._boolean_flag(word):
                value = words.popleft() if words and _is_boolean(words[0]) else "true"
                yield f"{flag}={value}"
            else:
                yield word

    def _boolean_flag(self, word: str) -> str | None:
        """Return the boolean flag that a word, perhaps abbreviated, means; argparse refuses ambiguous ones."""
        if word in self._booleans or not word.startswith("--"):
            return self._booleans.get(word)
        flags = {leaf.flag for leaf in self._leaves.values() if leaf.flag.startswith(word)}
        return self._booleans.get(flags.pop()) if len(flags) == 1 else None


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that may be flags, and those after `--`, which are not."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def _is_boolean(word: str) -> bool:
    try:
        _BOOLEAN.validate_python(word)
    except ValidationError:
        return False
    return True


def _help(leaf: Leaf) -> str:
    variable = f"{leaf.variable}[{IN_FILE}]" if leaf.is_secret else leaf.variable
    text = f"{leaf.field.description} [environment {variable}; file {leaf.key}; default {leaf.default}]"
    return text.replace("%", "%%")

"""Sources of settings besides the command line: the environment and the config file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource

from broadway.domain.mistakes import alternatives
from broadway.domain.text_files import TextFileError, json_of, read_secret, read_text
from broadway.settings.setting_names import IN_FILE, Leaf, LeafPath, leaves, variable

_Tree = dict[str, "Leaf | _Tree"]  # leaves by their keys in the config file


class ConfigError(Exception):
    """The environment or the config file is invalid; the text names the place."""


class Environment(EnvSettingsSource):
    """Variables: one for each leaf, and for each secret also one that names a file with it, such as a mounted one."""

    origin, mistake = "environment ", ""

    def name(self, path: LeafPath) -> str:
        return variable(path) + (IN_FILE if path in self._from_files else "")

    def _load_env_vars(self) -> Mapping[str, str | None]:
        """Return the variables of the environment, with secrets from files under the names of their own variables."""
        variables = dict(super()._load_env_vars())  # by their names in lower case
        self._from_files: set[LeafPath] = set()
        for leaf in (each for each in leaves(self.settings_cls) if each.is_secret):
            name = leaf.variable + IN_FILE
            file = variables.pop(name.lower(), None)
            if file is None:
                continue
            if leaf.variable.lower() in variables:
                raise ConfigError(f"{name}: {leaf.variable} is given, too; one of them is enough")
            variables[leaf.variable.lower()] = _secret(file, name)
            self._from_files.add(leaf.path)
        return variables

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> NoReturn:  # noqa: ARG002
        """Refuse a whole section in one variable."""
        section = [each.variable for each in leaves(self.settings_cls) if each.path[0] == field_name]
        raise ConfigError(f"{variable((field_name,))}: {unknown(variable((field_name,)), section)}")


class ConfigFile(InitSettingsSource):
    """A JSON object, with an object for each section."""

    def __init__(self, kind: type[BaseSettings], path: str) -> None:
        self.origin, self.mistake = f"file {path}: ", f"{path}: "
        self._keys = {leaf.path: leaf.key for leaf in leaves(kind)}
        super().__init__(kind, _by_field(_object(path), _tree(leaves(kind)), path))

    def name(self, path: LeafPath) -> str:
        return self._keys[tuple(str(part) for part in path)]


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name."""
    return f"no such setting; {alternatives(name, list(known))}"


def _secret(file: str, name: str) -> str:
    """Return a file's text without the newline at its end, which editors add; errors name the variable ``name``."""
    try:
        return read_secret(Path(file))
    except TextFileError as error:
        raise ConfigError(f"{name}: {file or 'no name'}: {error}; expected a file with the secret") from None


def _object(path: str) -> Any:
    try:
        return json_of(read_text(Path(path)))
    except TextFileError as error:
        raise ConfigError(f"{path}: {error}; expected a config file, in JSON") from None


def _tree(found: Iterable[Leaf]) -> _Tree:
    root: _Tree = {}
    for leaf in found:
        node = root
        *sections, name = leaf.key.split(".")
        for section in sections:
            node = node.setdefault(section, {})  # type: ignore[assignment]  # a section is never a leaf
        node[name] = leaf
    return root


def _by_field(data: object, tree: _Tree, where: str, above: str = "") -> dict[str, Any]:
    """Return an object's values by the names of fields; ``above`` is the prefix of its keys."""
    if not isinstance(data, Mapping):
        place = f"{where}: {above.rstrip('.')}" if above else where
        raise ConfigError(f"{place}: expected an object, with keys of {', '.join(tree)}")
    values: dict[str, Any] = {}
    for key, value in data.items():
        place, node = f"{where}: {above}{key}", tree.get(key)
        if node is None:
            raise ConfigError(f"{place}: {unknown(key, tree)}")
        if isinstance(node, dict):
            values[key] = _by_field(value, node, where, f"{above}{key}.")
        else:
            values[node.path[-1]] = _of_type(node, value, place)
    return values


def _of_type(leaf: Leaf, value: object, place: str) -> object:
    # pydantic would accept true as the number 1.
    if isinstance(value, bool) and leaf.type != "bool":
        raise ConfigError(f"{place}: expected {leaf.type}, not a boolean")
    return value

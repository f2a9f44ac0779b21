"""The names of settings: one leaf for each value, with its flag, variable and key in the config file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import CliPositionalArg

ENV_PREFIX = "BROADWAY_"
IN_FILE = "_FILE"  # suffix of the variable that names a file with a secret

LeafPath = tuple[str | int, ...]  # field names from the settings down to a value: ("log", "dir")

_POSITIONAL = get_args(CliPositionalArg[str])[1]
_UNIONS = (UnionType, Union)  # of plain types, and of annotated ones
_TYPES = {SecretStr: "str", Path: "path"}


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a setting besides that of its field; metadata of its annotation."""

    short: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of a program's settings."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def names(self) -> Names:
        return next((each for each in self.field.metadata if isinstance(each, Names)), Names())

    @property
    def positional(self) -> bool:
        return _POSITIONAL in self.field.metadata

    @property
    def flag(self) -> str:
        """The long flag, or the name of a positional argument in the usage."""
        return self.path[-1].upper() if self.positional else f"--{'-'.join(self.path).replace('_', '-')}"

    @property
    def variable(self) -> str:
        return variable(self.path)

    @property
    def key(self) -> str:
        """The name in the config file; a dot stands for an object in an object."""
        return self.names.file or ".".join(self.path)

    @property
    def type(self) -> str:
        """The type of the value: bool, float, int, path or str."""
        return _TYPES.get(self._annotation) or str(self._annotation.__name__)

    @property
    def is_secret(self) -> bool:
        """True for a value that must not be shown: a token, or an address that may contain a password."""
        return self._annotation is SecretStr or not self.field.repr

    @property
    def _annotation(self) -> Any:
        annotation: Any = self.field.annotation
        if get_origin(annotation) in _UNIONS:
            annotation = next(each for each in get_args(annotation) if each is not type(None))
        return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation

    @property
    def default(self) -> str:
        """The default as text; `none` for no value, `required` if a value must be given."""
        if self.field.default_factory is not None:
            return self.field.default_factory.__name__.replace("_", " ")
        if self.positional:
            return "required"
        return as_text(self.field.default)


def leaves(kind: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield every leaf of a program's settings, in the order of the classes."""
    for name, field in kind.model_fields.items():
        path = (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, path)
        else:
            yield Leaf(path, field)


def variable(path: LeafPath) -> str:
    """Return the environment variable of a setting, which need not exist."""
    return ENV_PREFIX + "_".join(str(part) for part in path).upper()


def as_text(value: object) -> str:
    """Return a value as text, in the form for the command line and the environment; `none` for None."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)

"""The files, directories and ports that settings name: checked at a start, before anything depends on them."""

import errno
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from broadway.settings.setting_names import Leaf, leaves

_FIRST_PORT_OF_USERS = 1024


class Place(Enum):
    """The kind of place that a setting names; metadata of its annotation."""

    DIRECTORY = auto()  # to write to; made if it is missing
    FILE = auto()  # to write; its directory exists
    GIVEN_DIRECTORY = auto()  # to read
    GIVEN_FILE = auto()  # to read
    HOST = auto()  # to listen on; the setting of its port comes next to it


@dataclass(frozen=True, slots=True)
class Unusable:
    """A setting whose place cannot be used; ``is_lasting`` if another try would not help."""

    text: str
    is_lasting: bool = True


def unusable_places(settings: BaseModel) -> Iterator[Unusable]:
    """Yield the settings whose place cannot be used. Directories to write to are made."""
    for leaf in leaves(type(settings)):
        place = next((each for each in leaf.field.metadata if isinstance(each, Place)), None)
        value = _value(settings, leaf)
        if place is Place.HOST:
            yield from _ports(settings, leaf, str(value))
        elif place and value not in (None, "") and (problem := _problem(place, Path(value))):
            yield Unusable(f"{leaf.flag} ({leaf.variable}): {value}: {problem}")


def directories(settings: BaseModel) -> dict[str, Path]:
    """Return the directories to write to, absolute, by the names of their settings, such as ``work_dir``."""
    return {
        "_".join(leaf.path): Path(value).absolute()
        for leaf in leaves(type(settings))
        if Place.DIRECTORY in leaf.field.metadata and (value := _value(settings, leaf))
    }


def _value(settings: BaseModel, leaf: Leaf) -> Any:
    value: Any = settings
    for name in leaf.path:
        value = getattr(value, name, None)
    return value


def _problem(place: Place, path: Path) -> str | None:
    """Return why a place cannot be used, with the remedy."""
    try:
        _TRIALS[place](path)
    except OSError as error:
        return f"{error.strerror or error}; {_REMEDIES[place]}"
    except ValueError:  # a path with NUL
        return f"is no path; {_REMEDIES[place]}"
    return None


def _write_into(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        pass


def _write_beside(file: Path) -> None:
    if file.is_dir():
        raise IsADirectoryError(None, "is a directory")
    with tempfile.TemporaryFile(dir=file.parent):
        pass


def _read_directory(directory: Path) -> None:
    next(directory.iterdir(), None)


def _read_file(file: Path) -> None:
    with file.open("rb"):
        pass


_TRIALS: Mapping[Place, Callable[[Path], None]] = {
    Place.DIRECTORY: _write_into,
    Place.FILE: _write_beside,
    Place.GIVEN_DIRECTORY: _read_directory,
    Place.GIVEN_FILE: _read_file,
}
_REMEDIES: Mapping[Place, str] = {
    Place.DIRECTORY: "give a directory that this program may make and write to",
    Place.FILE: "give a file in a directory that exists and that this program may write to",
    Place.GIVEN_DIRECTORY: "give a directory that this program may read",
    Place.GIVEN_FILE: "give a file that this program may read",
}


def _ports(settings: BaseModel, leaf: Leaf, host: str) -> Iterator[Unusable]:
    """Yield an address on which a program cannot listen; a port 0 means any port, or that nothing listens."""
    name = leaf.path[-1].removesuffix("_addr") + "_port"
    port = getattr(settings, name, 0)
    if port == 0 and name == "metrics_port":
        return
    flags = f"{leaf.flag} {host}, --{name.replace('_', '-')} {port}"
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "is no name of a host"
        yield Unusable(f"{flags}: {reason}; give an address of this machine, such as 127.0.0.1 or ::1")
        return
    for family, kind, _, _, address in found:
        if problem := _unbindable(family, kind, address):
            yield Unusable(f"{flags}: cannot listen: {problem}", is_lasting=not _may_pass(problem))
            return


_TAKEN = "the port is taken; stop the other program, or give another port"


def _unbindable(family: int, kind: int, address: Any) -> str | None:
    try:
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trial.bind(address)
    except OSError as error:
        return _words(error, address[1])
    return None


def _words(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return _TAKEN
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; give one that it has, such as 127.0.0.1 or ::1"
    if error.errno == errno.EACCES and port < _FIRST_PORT_OF_USERS:
        return f"only root may listen on ports below {_FIRST_PORT_OF_USERS}; give a higher port"
    return error.strerror or str(error)


def _may_pass(problem: str) -> bool:
    return problem is _TAKEN

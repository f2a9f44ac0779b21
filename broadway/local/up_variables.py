"""The addresses and tokens of a `broadway up`, in its directory, where the commands of the same user find them."""

import fcntl
import os
import shlex
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from broadway.local.processes import LocalError
from broadway.local.secret import write

DIRECTORY = Path(".broadway/up")
VARIABLE = "BROADWAY_UP"  # names another directory
_FILE = "environment"
_IN_FILE = "_FILE"
# Variables that lead commands to a deployment. With one of them in the environment, it is another deployment.
_ADDRESSES = tuple(
    f"BROADWAY_{name}"
    for name in ("SERVER", "AMQP_URL", "MONGODB_DSN", "MANAGEMENT_URL", "TOKEN", "OPERATOR_TOKEN", "API_HOST")
)
_OTHERS = 0o077  # rights of other users


def keep(directory: Path, variables: Mapping[str, str]) -> Path:
    """Write the variables of a deployment, one a line, as a shell reads them; return the file."""
    file = directory / _FILE
    write(file, "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
    return file


def adopt(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add the variables of the `broadway up` in BROADWAY_UP, or else below this directory, to an environment.

    An environment that has an address or a token of a deployment stays as it is: its token goes to its own address.
    A file of another user, or one that others may read, is ignored.
    """
    if any(name in environment or name + _IN_FILE in environment for name in _ADDRESSES):
        return
    for name, value in _read(Path(environment.get(VARIABLE) or DIRECTORY) / _FILE).items():
        environment.setdefault(name, value)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; raise LocalError if another process holds it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(f"another `broadway up` runs in {directory}") from None
        yield


def _read(file: Path) -> dict[str, str]:
    try:
        with file.open() as opened:
            state = os.fstat(opened.fileno())
            if state.st_uid != os.geteuid() or state.st_mode & _OTHERS:
                return {}
            pairs = (word.partition("=") for word in shlex.split(opened.read()))
            return {name: value for name, _, value in pairs}
    except (OSError, ValueError):
        return {}

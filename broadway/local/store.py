"""A private document store that speaks MongoDB's protocol, with its data in one directory.

It listens on 127.0.0.1, where every local user can connect, so it demands a login. The password is in the directory,
which only its owner can read; so are the data.
"""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from broadway import installation
from broadway.local.processes import Child, ChildError, LocalError, MissingError, accepts, child, free_ports
from broadway.local.secret import kept, private

NAME = "broadway"  # of the only user
_USER = Path(__file__).with_name("store_user.py")


@dataclass(frozen=True)
class Store:
    """A running server that accepts connections on 127.0.0.1."""

    dsn: str = field(repr=False)
    child: Child

    @property
    def pid(self) -> int:
        return self.child.pid

    async def ended(self) -> ChildError:
        return await self.child.ended()


@asynccontextmanager
async def store(
    directory: Path, *, port: int | None = None, log: Path | None = None, within: float = 60
) -> AsyncIterator[Store]:
    """Run a server on the data in `directory`, on a free port unless one is given.

    Acknowledged writes with `j: true` survive a kill. Raises MissingError if the package is not installed, ChildError
    if the server is not ready `within` seconds, LocalError if its user cannot be created.
    """
    port = port or free_ports(1)[0]
    private(directory)
    server = _server()
    password = kept(directory / "password")
    await _create_user(server, directory / "data", password)
    command = _command(server, directory, port)
    async with child("SecantusDB", command, log=log or directory / "store.log") as running:
        # The server opens its storage before its port, so once it accepts connections it is ready.
        await running.until(partial(accepts, port), within=within)
        login = f"{NAME}:{password}@127.0.0.1:{port}"
        options = "authSource=admin&authMechanism=SCRAM-SHA-256&directConnection=true&retryWrites=false"
        yield Store(f"mongodb://{login}/?{options}", running)


async def _create_user(server: str, data: Path, password: str) -> None:
    """Create the store's user unless the data have it; those of earlier versions have none."""
    mark = data / "broadway-user"
    if mark.exists():
        return
    data.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(_python(server), "-I", str(_USER), str(data)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(password.encode())
    if process.returncode:
        raise LocalError(f"the store's user could not be created: {output.decode(errors='replace').strip()}")
    mark.touch()


def _python(server: str) -> str:
    """Return the Python of the environment in which the server is installed."""
    own = Path(server).resolve().with_name("python")
    return str(own) if own.exists() else sys.executable


def _command(server: str, home: Path, port: int) -> list[str]:
    config = home / "secantusd.toml"
    config.touch()  # an empty file, so that the server searches for no other
    return [
        *(server, "--config", str(config), "--auth"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--storage-path", str(home / "data"), "--log-level", "WARNING"),
        "--standalone",  # without an oplog, which would slow down every write and has no reader
    ]


def _server() -> str:
    found = shutil.which("secantusd-py", path=str(Path(sys.executable).parent)) or shutil.which("secantusd-py")
    if found is None:
        how = f"{installation.advice(installation.LOCAL)}, or set BROADWAY_MONGODB_DSN"
        raise MissingError(f"no secantusd-py, which the extra 'local' brings: {how}")
    return found

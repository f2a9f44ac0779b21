"""A private document store that speaks MongoDB's protocol, with its data in one directory."""

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from broadway.local.processes import Child, ChildError, MissingError, accepts, child, free_ports


@dataclass(frozen=True)
class Store:
    """A running server that accepts connections on 127.0.0.1."""

    dsn: str
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
    if the server is not ready `within` seconds.
    """
    port = port or free_ports(1)[0]
    command = _command(directory, port)
    async with child("SecantusDB", command, log=log or directory / "store.log") as running:
        # The server opens its storage before its port, so once it accepts connections it is ready.
        await running.until(partial(accepts, port), within=within)
        yield Store(f"mongodb://127.0.0.1:{port}/?directConnection=true&retryWrites=false", running)


def _command(home: Path, port: int) -> list[str]:
    config = home / "secantusd.toml"
    home.mkdir(parents=True, exist_ok=True)
    config.touch()  # an empty file, so that the server searches for no other
    return [
        *(_server(), "--config", str(config)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--storage-path", str(home / "data"), "--log-level", "WARNING"),
        "--standalone",  # without an oplog, which would slow down every write and has no reader
    ]


def _server() -> str:
    found = shutil.which("secantusd-py", path=str(Path(sys.executable).parent)) or shutil.which("secantusd-py")
    if found is None:
        raise MissingError("no secantusd-py: pip install broadway[local], or set BROADWAY_MONGODB_DSN")
    return found

"""The broker and the store that tests share: those of the whole suite, or a session's own if none are named.

``servers.py DIRECTORY COMMAND...`` runs a command with both, over a directory.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from broadway.local.broker import broker
from broadway.local.store import store

AMQP, MANAGEMENT, MONGODB = "BROADWAY_TEST_AMQP_URL", "BROADWAY_TEST_MANAGEMENT_URL", "BROADWAY_TEST_MONGODB_DSN"


@dataclass(frozen=True)
class Node:
    """A broker, by its addresses; ``administration`` is the management API's with the login of an administrator."""

    amqp_url: str
    administration: str

    @property
    def management_url(self) -> str:
        return str(URL(self.administration).with_user(None)).removesuffix("/")

    @property
    def username(self) -> str:
        return URL(self.administration).user or ""

    @property
    def password(self) -> str:
        return URL(self.administration).password or ""


@asynccontextmanager
async def node(directory: Path, given: Mapping[str, str] = os.environ) -> AsyncIterator[Node]:
    """The broker that the environment names, or one of its own over a directory."""
    if AMQP in given:
        yield Node(given[AMQP], given[MANAGEMENT])
        return
    async with broker(directory) as own:
        yield Node(own.amqp_url, own.administration)


@asynccontextmanager
async def dsn(directory: Path, given: Mapping[str, str] = os.environ) -> AsyncIterator[str]:
    """The address of the store that the environment names, or of one of its own over a directory."""
    if MONGODB in given:
        yield given[MONGODB]
        return
    async with store(directory) as own:
        yield own.dsn


async def run(directory: Path, *command: str) -> int:
    """Run a command for which both are named; its exit code."""
    async with node(directory / "broker") as broker, dsn(directory / "store") as store:
        named = {AMQP: broker.amqp_url, MANAGEMENT: broker.administration, MONGODB: store}
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **named})
        return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(Path(sys.argv[1]), *sys.argv[2:])))

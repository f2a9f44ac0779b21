"""The broker and the store that tests share: those that the environment names, or a session's own.

``servers.py DIRECTORY COMMAND...`` runs a command with one broker for all its sessions, over a directory, or with both
in containers if ``CONTAINERS`` is set.
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
from broadway.local.engine import engine
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


@asynccontextmanager
async def local(directory: Path) -> AsyncIterator[dict[str, str]]:
    """The broker, as variables name it. Each session has a store of its own, which does one thing at a time."""
    async with node(directory / "broker") as broker:
        yield {AMQP: broker.amqp_url, MANAGEMENT: broker.administration}


@asynccontextmanager
async def in_containers() -> AsyncIterator[dict[str, str]]:
    """Broker and store in containers, on the machine's engine or on a private one, as variables name them."""
    async with engine(Path(".broadway/engine")) as running:
        os.environ["DOCKER_HOST"] = running.docker_host
        from containers import mongodb, rabbitmq  # noqa: PLC0415 - which looks for the engine when it is imported

        with rabbitmq() as (amqp_url, administration), mongodb() as store:
            yield {AMQP: amqp_url, MANAGEMENT: administration, MONGODB: store}


async def run(directory: Path, *command: str) -> int:
    """Run a command for which they are named; its exit code."""
    async with in_containers() if os.environ.get("CONTAINERS") else local(directory) as named:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **named})
        return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(Path(sys.argv[1]), *sys.argv[2:])))

"""The broker and the store that tests share: from the environment, or started for the session.

``servers.py DIRECTORY COMMAND...`` runs a command with one broker for all its sessions, with data in a directory, or
with broker and store in containers if ``CONTAINERS`` is set.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from yarl import URL

from broadway.local.broker import broker
from broadway.local.engine import engine
from broadway.local.store import store

AMQP, MANAGEMENT, MONGODB = "BROADWAY_TEST_AMQP_URL", "BROADWAY_TEST_MANAGEMENT_URL", "BROADWAY_TEST_MONGODB_DSN"


@dataclass(frozen=True)
class Node:
    """A broker's addresses; ``administration`` is the management API's, with an administrator's login."""

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
    """Yield the broker that the environment names, or a new one with data in a directory."""
    if AMQP in given:
        yield Node(given[AMQP], given[MANAGEMENT])
        return
    async with broker(directory) as own:
        yield Node(own.amqp_url, own.administration)
        os.kill(own.pid, signal.SIGKILL)  # the data are temporary, and the broker would take seconds to end


@asynccontextmanager
async def dsn(directory: Path, given: Mapping[str, str] = os.environ) -> AsyncIterator[str]:
    """Yield the address of the store that the environment names, or of a new one with data in a directory."""
    if MONGODB in given:
        yield given[MONGODB]
        return
    async with store(directory) as own:
        yield own.dsn
        os.kill(own.pid, signal.SIGKILL)  # the data are temporary, and the store would take seconds to end


@asynccontextmanager
async def local(directory: Path) -> AsyncIterator[dict[str, str]]:
    """Run a broker, and yield its variables. Each session has its own store, which handles one request at a time.

    Programs trust one authority, since each of their many TLS contexts reads the machine's 140 in 16 ms.
    """
    trusted = directory / "authorities.pem"
    async with node(directory / "broker") as broker:
        trustme.CA().cert_pem.write_to_path(str(trusted))
        yield {AMQP: broker.amqp_url, MANAGEMENT: broker.administration, "SSL_CERT_FILE": str(trusted)}


@asynccontextmanager
async def in_containers() -> AsyncIterator[dict[str, str]]:
    """Run broker and store in containers, on the machine's engine or a private one, and yield their variables."""
    async with engine(Path(".broadway/engine")) as running:
        os.environ["DOCKER_HOST"] = running.docker_host
        from containers import mongodb, rabbitmq  # noqa: PLC0415 - the import searches for the engine

        with rabbitmq() as (amqp_url, administration), mongodb() as store:
            yield {AMQP: amqp_url, MANAGEMENT: administration, MONGODB: store}


def crashes(log: Path) -> list[str]:
    """Return the last lines about crashes in a broker's log, without the errors of clients, which tests provoke."""
    own = re.compile(r"\[error\] <[\d.]+> (?!Channel error|operation |missed heartbeats)")
    return [line for line in log.read_text(errors="replace").splitlines() if own.search(line)][-100:]


async def run(directory: Path, *command: str) -> int:
    """Run a command with the servers in its environment, and return its exit code; after a failure, print crashes."""
    async with in_containers() if os.environ.get("CONTAINERS") else local(directory) as variables:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **variables})
        code = await process.wait()
    if code and (log := directory / "broker" / "broker.log").exists():
        print("--- errors of the broker", *crashes(log), sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(run(Path(sys.argv[1]), *sys.argv[2:])))

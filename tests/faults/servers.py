"""The broker and the store of a world: parts of the session's, or private ones.

Private ones can be killed, and restart with the same data. At the end they are killed, too: a clean stop of a broker
takes 6 s.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import httpx2
from erlang import call
from harness import PATIENCE, free_port
from yarl import URL

from broadway.local.broker import Broker, broker
from broadway.local.processes import ChildError, LocalError
from broadway.local.store import Store, store
from broadway.mongo.raw_documents import RawDocuments


class Service(Protocol):
    @property
    def pid(self) -> int: ...
    async def ended(self) -> ChildError: ...


S = TypeVar("S", bound=Service)


@dataclass
class Server(Generic[S]):
    """Restarts a service whenever it ends, until the context ends. ``between`` runs before the next start."""

    start: Callable[[], AbstractAsyncContextManager[S]]
    is_up: asyncio.Event = field(default_factory=asyncio.Event)
    between: Callable[[], None] | None = None
    starts: int = 0
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    _current: S | None = None

    def __post_init__(self) -> None:
        self.may_start.set()

    @property
    def current(self) -> S:
        assert self._current is not None
        return self._current

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        task = asyncio.create_task(self._run())
        try:
            await self.is_up.wait()
            yield self
        finally:
            self.may_start.clear()
            if self.is_up.is_set():  # its data are no longer needed, and an end in good order takes seconds
                os.kill(self.current.pid, signal.SIGKILL)
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(LocalError):
                async with self.start() as service:
                    self._current = service
                    self.starts += 1
                    self.is_up.set()
                    await service.ended()
                    self.is_up.clear()
            if self.between:
                self.between()
                self.between = None
            await self.may_start.wait()

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[asyncio.Event]:
        """Kill the server when the block begins. Restart it after the block, or earlier once the event is set."""
        self.may_start.clear()
        self.is_up.clear()
        os.kill(self.current.pid, signal.SIGKILL)
        try:
            yield self.may_start
        finally:
            self.may_start.set()
            await self.is_up.wait()

    async def kill(self, *, between: Callable[[], None] | None = None) -> None:
        """Send SIGKILL, and return once the server is up again."""
        self.between = between
        self.is_up.clear()
        os.kill(self.current.pid, signal.SIGKILL)
        await self.is_up.wait()

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Freeze the server for the time of the block."""
        pid = self.current.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def freeze(self, seconds: float) -> None:
        async with self.frozen():
            await asyncio.sleep(seconds)


@dataclass
class VirtualHost:
    """A virtual host of a broker, with an operator's tools."""

    url: str
    management_url: str
    login: tuple[str, str]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def management(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.management_url, auth=self.login, timeout=PATIENCE)

    async def part(self, name: str) -> str:
        """Add a virtual host to the broker, and return its address."""
        async with self.management() as http:
            (await http.put(f"/api/vhosts/{name}")).raise_for_status()
            grant = {"configure": ".*", "write": ".*", "read": ".*"}
            (await http.put(f"/api/permissions/{name}/{self.login[0]}", json=grant)).raise_for_status()
        return str(URL(self.url).with_path(name))

    async def close_connections(self) -> int:
        async with self.management() as http:
            found = (await http.get(f"/api/vhosts/{self.name}/connections?disable_stats=true")).json()
            for connection in found:
                await http.delete(f"/api/connections/{connection['name']}")
            return len(found)

    async def queues(self) -> dict[str, int]:
        """Return the number of messages in each queue, both ready and unacknowledged."""
        path = f"/api/queues/{self.name}?disable_stats=true&enable_queue_totals=true"
        async with self.management() as http:
            found = (await http.get(path)).raise_for_status()
            return {queue["name"]: queue.get("messages", 0) for queue in found.json()}

    async def uptime(self) -> float:
        """Return for how many seconds the broker has been running."""
        async with self.management() as http:
            [node] = (await http.get("/api/nodes")).raise_for_status().json()
            return float(node.get("uptime", 0)) / 1000

    async def purge(self, queue: str) -> None:
        async with self.management() as http:
            (await http.delete(f"/api/queues/{self.name}/{queue}/contents")).raise_for_status()

    async def delete(self, queue: str) -> None:
        async with self.management() as http:
            (await http.delete(f"/api/queues/{self.name}/{queue}")).raise_for_status()


@dataclass
class Rabbit(VirtualHost):
    """A private broker, with the tools of its machine's operator."""

    server: Server[Broker]
    directory: Path

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, directory: Path) -> AsyncIterator[Self]:
        port, management_port = free_port(), free_port()

        def start() -> AbstractAsyncContextManager[Broker]:
            return _killed(broker(directory, port=port, management_port=management_port))

        async with Server(start).running() as server:
            node = server.current
            yield cls(node.amqp_url, node.management_url, (node.username, node.password), server, directory)

    @contextlib.asynccontextmanager
    async def short_of_memory(self) -> AsyncIterator[None]:
        """Raise a memory alarm for the time of the block, which blocks publishers."""
        await self.call("vm_memory_monitor set_vm_memory_high_watermark [0.00001]")
        try:
            yield
        finally:
            await self.call("vm_memory_monitor set_vm_memory_high_watermark [0.4]")

    @contextlib.asynccontextmanager
    async def short_of_disk(self) -> AsyncIterator[None]:
        """Raise a disk alarm for the time of the block, which blocks publishers too."""
        await self.call("rabbit_disk_monitor set_disk_free_limit [1000000000000000000]")
        try:
            yield
        finally:
            await self.call("rabbit_disk_monitor set_disk_free_limit [50000000]")

    async def alarm(self, seconds: float) -> None:
        async with self.short_of_memory():
            await asyncio.sleep(seconds)

    async def disk_alarm(self, seconds: float) -> None:
        async with self.short_of_disk():
            await asyncio.sleep(seconds)

    async def call(self, function: str) -> None:
        """Call an Erlang function in the node: its module, name and arguments."""
        await call(self.server.current.pid, function)

    async def lose_everything(self) -> None:
        """Kill the broker and delete all its data on disk."""
        await self.server.kill(between=lambda: shutil.rmtree(self.directory / "data"))


@contextlib.asynccontextmanager
async def mongo(directory: Path) -> AsyncIterator[Server[Store]]:
    port = free_port()
    async with Server(lambda: _killed(store(directory, port=port))).running() as server:
        yield server


@contextlib.asynccontextmanager
async def _killed(starting: AbstractAsyncContextManager[S]) -> AsyncIterator[S]:
    """Run a service that is killed at the end of the context: its data have no more readers, or must survive that."""
    async with starting as service:
        try:
            yield service
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(service.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Servers:
    """A virtual host, and two databases of a store; ``rabbit`` and ``store`` are the private broker and store."""

    host: VirtualHost
    dsn: str
    primary: str = "AG"
    logs: str = "logs"
    rabbit: Rabbit | None = None
    store: Server[Store] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {"BROADWAY_MONGODB_PRIMARY": self.primary, "BROADWAY_MONGODB_LOGS": self.logs}

    async def part(self, name: str) -> "Servers":
        """Return a new part of these servers, with the tools of all: a virtual host, and two databases."""
        assert self.rabbit, "it has an operator's tools"
        rabbit = replace(self.rabbit, url=await self.rabbit.part(name))
        return replace(self, host=rabbit, rabbit=rabbit, primary=f"{name}_ag", logs=f"{name}_logs")

    def site(self) -> AbstractAsyncContextManager[RawDocuments]:
        """Connect to the databases as backups do."""
        return RawDocuments.connect(self.dsn, primary=self.primary, logs=self.logs)


Parts = Callable[[], AbstractAsyncContextManager[Servers]]


@contextlib.asynccontextmanager
async def private(directory: Path) -> AsyncIterator[Servers]:
    """Run a broker and a store for a world whose faults strike them."""
    async with Rabbit.running(directory / "rabbit") as rabbit, mongo(directory / "mongo") as store:
        yield Servers(rabbit, store.current.dsn, rabbit=rabbit, store=store)

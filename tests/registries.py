"""Registries of images on this machine: Debian's docker-registry, and a proxy that can hold back its answers."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from harness import free_port, until

USER, PASSWORD = "grader", "correct horse"
_HTPASSWD = f"{USER}:$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n"


@dataclass(frozen=True)
class Registry:
    """A running registry; ``data`` has the blobs that it serves."""

    port: int
    data: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def name(self, name: str) -> str:
        return f"{self.host}/{name}"

    def push(self, layout: Path, name: str, as_name: str = "") -> str:
        """Push an image of a layout, and return its name there."""
        target = self.name(as_name or name)
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds",
             f"{USER}:{PASSWORD}", f"oci:{layout}:{name}", f"docker://{target}"],
            check=True,
        )  # fmt: skip
        return target

    def blob(self, digest: str) -> Path:
        value = digest.removeprefix("sha256:")
        return self.data / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"


@contextlib.asynccontextmanager
async def registry(directory: Path, *, with_login: bool = False) -> AsyncIterator[Registry]:
    """Run a registry with its data in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Registry(free_port(), directory / "data")
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(made.data)}},
        "http": {"addr": made.host},
    }
    if with_login:
        (directory / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
    (directory / "config.json").write_text(json.dumps(config))  # JSON is YAML
    with (directory / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            "docker-registry", "serve", directory / "config.json", stdout=log, stderr=log
        )
    try:
        await until(lambda: _answers(made.port))
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@dataclass
class Proxy:
    """A proxy of a registry: it counts the requests for blobs, and holds all after the first ``free`` ones back."""

    port: int
    target: int
    free: int = 0
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    blobs: int = 0
    serving: set[asyncio.Task[None] | None] = field(default_factory=set)

    def name(self, name: str) -> str:
        return f"127.0.0.1:{self.port}/{name}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(task := asyncio.current_task())
        try:
            await self._pass_on(reader, writer)
        finally:
            self.serving.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self.target)
        back = asyncio.create_task(_pump(theirs, writer))
        try:
            while data := await reader.read(64 * 1024):
                if b" /v2/" in data and b"/blobs/" in data:
                    self.blobs += 1
                    if self.blobs > self.free:
                        await self.is_open.wait()
                ours.write(data)
                await ours.drain()
        except ConnectionError:
            pass
        finally:
            back.cancel()
            ours.close()
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def proxy(target: int, *, free: int = 0) -> AsyncIterator[Proxy]:
    made = Proxy(free_port(), target, free)
    async with await asyncio.start_server(made.serve, "127.0.0.1", made.port) as server:
        try:
            yield made
        finally:
            server.close()
            for each in filter(None, tuple(made.serving)):
                each.cancel()
            await asyncio.gather(*filter(None, tuple(made.serving)), return_exceptions=True)

"""A light HTTP client, for load tests on a machine that also runs the server."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """Connections to one server, opened as needed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[Connection] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, host: str, port: int) -> AsyncIterator[Self]:
        wire = cls(host, port)
        try:
            yield wire
        finally:
            for _, writer in wire._idle:
                writer.close()

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
        """Send a request; return the status and the JSON of the answer."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        lines = [f"POST {path} HTTP/1.1", "Host: broadway", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        length = next(int(f.partition(":")[2]) for f in fields if f.lower().startswith("content-length:"))
        answer = json.loads(await reader.readexactly(length))
        self._idle.append((reader, writer))
        return int(status.split()[1]), answer

"""A receiver of callbacks: a real HTTP server that answers as a test wants, and keeps the requests."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Received:
    """A request, with its headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """Return the payload, if the signature is right and recent."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Answers with ``answers`` in turn, each a status, or None for no answer; then with ``status``."""

    port: int = 0
    status: int = 204
    headers: tuple[str, ...] = ()
    body: bytes = b""
    answers: list[int | None] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
    ) -> AsyncIterator[Self]:
        receiver = cls()
        server = await asyncio.start_server(receiver._serve, host, port, ssl=tls)
        receiver.port = server.sockets[0].getsockname()[1]
        try:
            yield receiver
        finally:
            server.close()
            for writer in list(receiver._open):
                writer.close()
            await server.wait_closed()

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines if each)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append(Received(line, headers, body))
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                status = self.answers.pop(0) if self.answers else self.status
                if status is None:
                    await reader.read()  # until the sender gives up
                    self.at_once -= 1
                    break
                length = () if status == 204 else (f"content-length: {len(self.body)}",)
                head = "\r\n".join((f"HTTP/1.1 {status} Status", *self.headers, *length, "", ""))
                writer.write(head.encode() + (b"" if status == 204 else self.body))
                await writer.drain()
                self.at_once -= 1
        self._open.discard(writer)
        writer.close()

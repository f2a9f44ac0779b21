"""TLS: connections count from their first packet, and handshakes have an end."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from harness import free_port, until

from broadway.ingest.http import tls_listener
from broadway.ingest.http.admission import ClientLimits
from broadway.ingest.http.server import Config, Server
from broadway.settings.http import HttpSettings

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def app(scope: Any, _: Any, send: Any) -> None:
    """Answer with the scheme and the client's address."""
    body = f"{scope['scheme']} {scope['client'][0]}".encode()
    lengths = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": lengths})
    await send({"type": "http.response.body", "body": body})


class Secure:
    """A server with TLS, for eight connections."""

    def __init__(self, port: int, admission: ClientLimits, trust: ssl.SSLContext) -> None:
        self.port = port
        self.admission = admission
        self.trust = trust

    async def ask(self) -> bytes:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname="localhost"
        )
        writer.write(REQUEST)
        answer = await reader.read()
        writer.close()
        return answer

    @contextlib.asynccontextmanager
    async def silent(self) -> AsyncIterator[asyncio.StreamReader]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader
        finally:
            writer.close()


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    admission = ClientLimits.of(HttpSettings(connections=16, connections_per_address=8), "")
    files = {"ssl_certfile": tmp_path / "cert.pem", "ssl_keyfile": tmp_path / "key.pem"}
    config = Config(app, admission=admission, port=free_port(), lifespan="off", log_config=None, **files)
    server = Server(config)
    serving = asyncio.create_task(server.serve())
    await server.listening.wait()
    yield Secure(config.port, admission, trust)
    server.should_exit = True
    await serving


async def test_a_request_over_tls_is_answered(secure: Secure) -> None:
    answers = await asyncio.gather(*(secure.ask() for _ in range(5)))

    assert all(answer.endswith(b"https 127.0.0.1") for answer in answers)
    await until(lambda: secure.admission.connections.used == 0)


async def test_a_connection_counts_before_its_handshake(secure: Secure) -> None:
    async with contextlib.AsyncExitStack() as all_:
        for _ in range(8):
            await all_.enter_async_context(secure.silent())
        await until(lambda: secure.admission.connections.used == 8)
        with pytest.raises(OSError):  # noqa: PT011 - the connection is cut, at whichever moment of the handshake
            await secure.ask()

    await until(lambda: secure.admission.connections.used == 0)
    assert (await secure.ask()).endswith(b"https 127.0.0.1")


async def test_a_handshake_must_end(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_listener, "HANDSHAKE_WITHIN", 0.3)
    async with secure.silent() as reader:
        assert await reader.read() == b""
    await until(lambda: secure.admission.connections.used == 0)


async def test_a_client_without_tls_is_disconnected(secure: Secure) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", secure.port)
    writer.write(REQUEST)

    assert b"HTTP" not in await reader.read()
    writer.close()
    assert (await secure.ask()).endswith(b"https 127.0.0.1")

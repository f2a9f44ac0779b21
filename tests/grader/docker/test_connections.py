"""Calls of the SDK over connections that are used again, to a server on a socket that answers as an engine does."""

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError
from harness import PATIENCE
from urllib3.exceptions import ReadTimeoutError

from broadway.grader.docker.engine import ENGINE_ERRORS, Client, new_client


@dataclass
class Engine:
    """The server's side: the calls so far, and the answers to give."""

    calls: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    status: HTTPStatus = HTTPStatus.OK
    answer: Any = field(default_factory=dict)
    hangs_up: bool = False
    silence: threading.Event | None = None  # until which no call is answered
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))  # connections, by the engine


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def setup(self) -> None:
        super().setup()
        self.engine.connections += 1

    def handle_any(self) -> None:
        engine = self.engine
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        engine.calls.append((self.command, self.path, dict(self.headers.items()), body))
        if engine.silence:
            engine.silence.wait(60)
        answer = json.dumps(engine.answer).encode()
        self.send_response(engine.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = engine.hangs_up  # without a word in the answer, as an engine that restarts

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the names that the library calls

    def address_string(self) -> str:
        return "a client"

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, socket: Path, engine: Engine) -> None:
        self._engine = engine
        super().__init__(str(socket), type("Bound", (Handler,), {"engine": engine}))

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._engine.closed.release()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def client(engine: Engine, tmp_path: Path) -> Iterator[Client]:
    socket = tmp_path / "engine.sock"
    with Server(socket, engine) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        client = new_client(f"unix://{socket}", version="1.41", timeout=30, pool=4)
        yield client
        client.close()
        server.shutdown()
        serving.join()


def test_calls_about_any_container_use_one_connection(engine: Engine, client: Client) -> None:
    for name in ("one", "two", "three"):
        client.start(name)
        client.wait(name)
        client.remove_container(name, force=True)

    assert engine.connections == 1
    assert [path for _, path, _, _ in engine.calls[:2]] == ["/v1.41/containers/one/start", "/v1.41/containers/one/wait"]


def test_a_call_has_the_sdks_query_headers_and_body(engine: Engine, client: Client) -> None:
    engine.answer = []
    client.containers(all=True, filters={"name": "^/a b$"})
    engine.answer = {"Id": "1"}
    client.create_container("busybox", name="x y", entrypoint=["true"])

    (_, listing, headers, _), (method, creating, sent, body) = engine.calls
    assert listing.startswith("/v1.41/containers/json?")
    assert "filters=%7B%22name%22%3A+%5B%22%5E%2Fa+b%24%22%5D%7D" in listing
    assert "None" not in listing
    assert (method, creating) == ("POST", "/v1.41/containers/create?name=x+y")
    assert json.loads(body)["Entrypoint"] == ["true"]
    assert sent["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("docker-sdk-python/")


def test_a_refusal_is_the_sdks_error_with_the_engines_words(engine: Engine, client: Client) -> None:
    engine.status, engine.answer = HTTPStatus.CONFLICT, {"message": "it is in use"}

    with pytest.raises(APIError) as caught:
        client.remove_container("one")

    assert (caught.value.status_code, caught.value.explanation) == (HTTPStatus.CONFLICT, "it is in use")


def test_a_connection_that_the_engine_has_closed_is_replaced(engine: Engine, client: Client) -> None:
    engine.hangs_up = True
    client.start("one")
    assert engine.closed.acquire(timeout=PATIENCE)
    client.start("two")

    assert (len(engine.calls), engine.connections) == (2, 2)


def test_an_engine_that_does_not_answer_in_time_is_an_error_of_the_engine(engine: Engine, client: Client) -> None:
    engine.silence = threading.Event()
    try:
        with pytest.raises(ReadTimeoutError) as caught:
            client.wait("one", timeout=1)
    finally:
        engine.silence.set()

    assert isinstance(caught.value, ENGINE_ERRORS)


def test_files_are_sent_in_pieces(engine: Engine, client: Client) -> None:
    """Uploads take the SDK's own road."""
    engine.answer = {"status": "loaded"}
    client.import_image_from_data(b"archive", repository="one", tag="1")

    assert engine.calls[0][3] == b"archive"

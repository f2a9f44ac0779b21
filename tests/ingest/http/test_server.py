"""The server of the API, started and ended by its service."""

import asyncio
from typing import Any

from harness import free_port

from broadway.ingest.http.admission import ClientLimits
from broadway.ingest.http.server import Config, Server
from broadway.local.processes import accepts
from broadway.runtime.cancellation import end
from broadway.settings.http import HttpSettings


async def app(_scope: Any, _receive: Any, _send: Any) -> None:
    """Answer nothing."""


async def test_a_server_whose_task_is_cancelled_listens_no_more() -> None:
    admission = ClientLimits.of(HttpSettings(), "")
    server = Server(Config(app, admission=admission, port=free_port(), lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve())
    await server.listening.wait()
    assert await accepts(server.config.port)

    await end(serving)

    assert not await accepts(server.config.port)

"""Requests that wait for the store, and are answered as soon as it is found to be away."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

import structlog
from starlette.responses import Response

from broadway.runtime.cancellation import end
from broadway.runtime.health import Health

log = structlog.get_logger(__name__)

MOST = 2000  # handlers that go on without their clients; further clients wait


class StoreOutages:
    """How long requests wait for the store. At the end of the context handlers that still run are cancelled."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._left: set[asyncio.Task[Response]] = set()

    async def answer(self, handling: Coroutine[Any, Any, Response]) -> Response | None:
        """What a handler answers; None when the store goes away first.

        The handler goes on then, and what it has begun may be done. It is not cancelled: drivers may be the worse for
        that, and its questions come to an end by themselves.
        """
        handler = asyncio.create_task(handling)
        try:
            await asyncio.wait((handler, self._health.loss("store")), return_when=asyncio.FIRST_COMPLETED)
            if handler.done() or len(self._left) >= MOST:
                return await handler
        except asyncio.CancelledError:
            await end(handler)
            raise
        self._left.add(handler)
        handler.add_done_callback(self._forget)
        return None

    def _forget(self, handler: asyncio.Task[Response]) -> None:
        self._left.discard(handler)
        if not handler.cancelled():
            error = handler.exception()
            log.info("request ended after its answer", error=type(error).__name__ if error else None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(*self._left)

"""Requests that wait for the store, and get their answer as soon as the store is found to be unavailable."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

import structlog
from starlette.responses import Response

from broadway.runtime.cancellation import end
from broadway.runtime.health import Health

log = structlog.get_logger(__name__)

MAX_DETACHED = 2000  # handlers that go on after their answer; beyond that, clients wait for their handlers


class StoreOutages:
    """Answers requests during outages of the store. The end of the context cancels handlers that still run."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._detached: set[asyncio.Task[Response]] = set()

    async def answer(self, handling: Coroutine[Any, Any, Response]) -> Response | None:
        """Return a handler's answer, or None if the store becomes unavailable first.

        The handler then goes on, and its changes may still be stored. It is not cancelled, since that may harm a
        driver's connection, and its queries end at their own timeouts.
        """
        handler = asyncio.create_task(handling)
        try:
            await asyncio.wait((handler, self._health.loss("store")), return_when=asyncio.FIRST_COMPLETED)
            if handler.done() or len(self._detached) >= MAX_DETACHED:
                return await handler
        except asyncio.CancelledError:
            await end(handler)
            raise
        self._detached.add(handler)
        handler.add_done_callback(self._forget)
        return None

    def _forget(self, handler: asyncio.Task[Response]) -> None:
        self._detached.discard(handler)
        if not handler.cancelled():
            error = handler.exception()
            log.info("request ended after its answer", error=type(error).__name__ if error else None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(*self._detached)

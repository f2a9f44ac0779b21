"""Handlers of requests, and the end of the wait for them: at an outage of the store, or when the client is gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from broadway.runtime.cancellation import end
from broadway.runtime.health import Health

log = structlog.get_logger(__name__)

MAX_DETACHED = 2000  # changes that go on after their answer; beyond that, clients wait for their handlers


class StoreOutages:
    """Answers requests during outages of the store. The end of the context cancels handlers that still run."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._detached: set[asyncio.Task[Any]] = set()

    async def read(self, handling: Coroutine[Any, Any, Response], gone: Coroutine[Any, Any, None]) -> Response | None:
        """Return a read's answer, or None if the store becomes unavailable first; its handler is cancelled then.

        Raises:
            ClientDisconnect: ``gone`` is done first, and the handler is cancelled.
        """
        handler, left = asyncio.create_task(handling), asyncio.create_task(gone)
        try:
            await self._first(handler, left)
            if handler.done():
                return await handler
            if left.done():
                raise ClientDisconnect
            return None
        finally:
            for task in (handler, left):
                self._cancel(task)

    async def change(self, handling: Coroutine[Any, Any, Response]) -> Response | None:
        """Return a change's answer, or None if the store becomes unavailable first.

        The handler then goes on, and its changes may still be stored: to cancel it would leave more to repair.
        """
        handler = asyncio.create_task(handling)
        try:
            await self._first(handler)
            if handler.done() or len(self._detached) >= MAX_DETACHED:
                return await handler
        except asyncio.CancelledError:
            await end(handler)
            raise
        self._detached.add(handler)
        handler.add_done_callback(self._forget)
        return None

    async def _first(self, *tasks: asyncio.Future[Any]) -> None:
        """Wait until one of the tasks is done, or the store is unavailable."""
        await asyncio.wait((*tasks, self._health.loss("store")), return_when=asyncio.FIRST_COMPLETED)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task without a wait for its end: a driver's cleanup would keep the client waiting."""
        if not task.done():
            task.cancel()
            self._detached.add(task)
            task.add_done_callback(self._forget)

    def _forget(self, handler: asyncio.Task[Any]) -> None:
        self._detached.discard(handler)
        if not handler.cancelled():
            error = handler.exception()
            log.info("request ended after its answer", error=type(error).__name__ if error else None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(*self._detached)

"""A supervisor of services: a service that ends unexpectedly is reported and restarted."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TypeVar

from broadway.local.processes import ChildError, LocalError

PAUSES = (0.5, 1, 2, 5, 10, 30)  # seconds before each restart; the last one repeats
STEADY = 60  # seconds after which a service counts as stable, and its pauses begin anew


class Service(Protocol):
    """A service that runs until its context ends, or until it fails."""

    async def ended(self) -> ChildError:
        """Wait for the service to fail, and return the error."""


S = TypeVar("S", bound=Service)
Start = Callable[[], AbstractAsyncContextManager[S]]


class Supervisor:
    """A supervisor that keeps services running during its `async with` and then stops them all at once.

    `say` gets a sentence, with the end of the log, for each failure of a service.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def keep(self, start: Start[S]) -> asyncio.Future[S]:
        """Start a service, and restart it after each failure.

        Return a future of the first start: it gets the service once it is ready, or the error.
        """
        first: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        first.add_done_callback(_mark_retrieved)
        task = asyncio.create_task(self._keep(start, first))
        task.add_done_callback(partial(self._hand_over, first))
        self._tasks.add(task)
        return first

    def _hand_over(self, first: asyncio.Future[S], task: asyncio.Task[None]) -> None:
        """Pass the error that ended a service for good to the caller that awaits its start, or else report it."""
        error = None if task.cancelled() else task.exception()
        if first.done():
            if error:
                self._say(f"{type(error).__name__}: {error}")
        elif error:
            first.set_exception(error)
        else:
            first.cancel()

    async def _keep(self, start: Start[S], first: asyncio.Future[S]) -> None:
        loop, pauses = asyncio.get_running_loop(), _pauses()
        while True:
            began = loop.time()
            failure = await _run(start, first)
            if not first.done():
                raise failure
            if loop.time() - began > STEADY:
                pauses = _pauses()
            pause = next(pauses)
            self._say(f"{failure}\nRestarting it in {pause:g} s.")
            await asyncio.sleep(pause)


async def _run(start: Start[S], first: asyncio.Future[S]) -> LocalError:
    """Run a service once; return the error that ended it."""
    try:
        async with start() as service:
            if not first.done():
                first.set_result(service)
            return await service.ended()
    except LocalError as error:
        return error


def _mark_retrieved(first: asyncio.Future[S]) -> None:
    """Mark the future's error as retrieved: if another error ends the start, no caller awaits this future."""
    if not first.cancelled():
        first.exception()


def _pauses() -> Iterator[float]:
    yield from PAUSES
    while True:
        yield PAUSES[-1]

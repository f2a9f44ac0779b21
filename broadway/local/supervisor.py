"""Keeps services running: what ends unexpectedly is reported and started again."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TypeVar

from broadway.local.processes import ChildError, LocalError

PAUSES = (0.5, 1, 2, 5, 10, 30)  # seconds before each next start; the last one repeats
STEADY = 60  # seconds after which a service has proved itself, and its pauses begin anew


class Service(Protocol):
    """Something that runs until its context ends, or until it breaks."""

    async def ended(self) -> ChildError:
        """Return, once it has broken, the error that says how."""


S = TypeVar("S", bound=Service)
Start = Callable[[], AbstractAsyncContextManager[S]]


class Supervisor:
    """Keeps services running while its `async with` lasts, and then stops them all at once.

    `say` gets a sentence (with the end of the log) whenever a service has broken.
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
        """Start a service and go on starting it; the future has it once it is first ready, or the error."""
        first: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        first.add_done_callback(_looked_at)
        task = asyncio.create_task(self._keep(start, first))
        task.add_done_callback(partial(self._hand_over, first))
        self._tasks.add(task)
        return first

    def _hand_over(self, first: asyncio.Future[S], task: asyncio.Task[None]) -> None:
        """Give the error that ended a service for good to who waits for its start, or else say it."""
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
            broken = await _run(start, first)
            if not first.done():
                raise broken
            if loop.time() - began > STEADY:
                pauses = _pauses()
            pause = next(pauses)
            self._say(f"{broken}\nStarting it again in {pause:g} s.")
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


def _looked_at(first: asyncio.Future[S]) -> None:
    """Take note of an error that nobody may come to await, since another one ended the start."""
    if not first.cancelled():
        first.exception()


def _pauses() -> Iterator[float]:
    yield from PAUSES
    while True:
        yield PAUSES[-1]

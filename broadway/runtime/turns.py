"""Turns for work of several ranks: lower ranks first, and each rank with a limit of its own."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


class Turns:
    """Limits the work that runs at a time.

    Args:
        limits: For each rank, the highest number of running pieces of work of this rank and of higher ones. Work of a
            lower rank starts first.
    """

    def __init__(self, limits: Mapping[int, int]) -> None:
        self._limits = dict(sorted(limits.items()))
        self._running: Counter[int] = Counter()
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {rank: deque() for rank in self._limits}

    @property
    def running(self) -> int:
        return self._running.total()

    @asynccontextmanager
    async def turn(self, rank: int) -> AsyncIterator[None]:
        """Wait for a turn, and hold it until the end of the context."""
        await self._take(rank)
        try:
            yield
        finally:
            self._leave(rank)

    def _leave(self, rank: int) -> None:
        self._running[rank] -= 1
        self._grant()

    async def _take(self, rank: int) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[rank].append(granted)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._leave(rank)  # the turn came together with the cancellation
            else:
                self._waiting[rank].remove(granted)
            raise

    def _grant(self) -> None:
        for rank, waiting in self._waiting.items():
            while waiting and self._has_room(rank):
                self._running[rank] += 1
                waiting.popleft().set_result(None)
            if waiting:
                return  # higher ranks wait until no lower one does

    def _has_room(self, rank: int) -> bool:
        return all(
            sum(self._running[each] for each in self._limits if each >= lowest) < limit
            for lowest, limit in self._limits.items()
            if lowest <= rank
        )

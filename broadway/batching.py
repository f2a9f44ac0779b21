"""Many handlers, one flush: what arrives within a moment is written together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from broadway.ports import Retry

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Collects items and passes them on in batches.

    Args:
        flush: Takes a batch. ``Retry`` is handed to every submitter; after any other error each item is flushed on
            its own, so that one bad item cannot fail its neighbours.
        size: Items in one batch at most.
        linger: Seconds to wait for more after the first item of a batch.
    """

    def __init__(
        self, flush: Callable[[Sequence[Item]], Awaitable[None]], *, size: int = 200, linger: float = 0.004
    ) -> None:
        self._flush = flush
        self._size = size
        self._linger = linger
        self._queue: asyncio.Queue[tuple[Item, asyncio.Future[None]]] = asyncio.Queue()

    async def submit(self, item: Item) -> None:
        """Return when the batch with the item has been flushed, or raise what went wrong with it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((item, done))
        await done

    async def run(self) -> None:
        """Flush batches until cancelled."""
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(self._linger)
            while len(batch) < self._size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._flush_all(batch)

    async def _flush_all(self, batch: Sequence[tuple[Item, asyncio.Future[None]]]) -> None:
        try:
            await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is handed to the submitters
            if len(batch) > 1 and not isinstance(error, Retry):
                for entry in batch:
                    await self._flush_all([entry])
                return
            _settle(batch, error)
        else:
            _settle(batch, None)


def _settle(batch: Sequence[tuple[Item, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, done in batch:
        if done.done():  # its submitter has been cancelled
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

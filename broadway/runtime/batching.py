"""Batch the requests of many callers: items that arrive within a moment are read or written together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from broadway.ports import Retry

Item = TypeVar("Item")
Answer = TypeVar("Answer")


_OVER = "this process is shutting down"


class Batcher(Generic[Item, Answer]):
    """Collects items and passes them on in batches.

    Args:
        flush: Takes a batch and returns an answer for each of its items, in their order.
        size: The maximum number of items in a batch.
        linger: Seconds to wait for more items after the first item of a batch.
        common: The type of errors that concern the whole batch. They are raised for every submitter, as ``Retry``
            always is. After any other error each item is flushed alone, so that one bad item does not fail the rest.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        size: int = 200,
        linger: float = 0.004,
        common: type[Exception] = Retry,
    ) -> None:
        self._flush = flush
        self._size = size
        self._linger = linger
        self._common = (Retry, common)
        self._queue: asyncio.Queue[tuple[Item, asyncio.Future[Answer]]] = asyncio.Queue()
        self._is_over = False

    async def submit(self, item: Item) -> Answer:
        """Return the item's answer once its batch has been flushed, or raise the error of the flush."""
        if self._is_over:
            raise Retry(_OVER)
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((item, done))
        return await done

    async def run(self) -> None:
        """Flush batches until cancelled; then raise ``Retry`` for the submitters that still wait."""
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        try:
            while True:
                batch = [await self._queue.get()]
                await asyncio.sleep(self._linger)
                while len(batch) < self._size and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                await self._flush_all(batch)
        finally:
            self._is_over = True
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            for done in _waiting(batch):
                done.set_exception(Retry(_OVER))

    async def _flush_all(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - the submitters raise it
            if len(batch) > 1 and not isinstance(error, self._common):
                for entry in batch:
                    await self._flush_all([entry])
                return
            for done in _waiting(batch):
                done.set_exception(error)
        else:
            for (_, done), answer in zip(batch, answers, strict=True):
                if not done.done():
                    done.set_result(answer)


def _waiting(batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> list[asyncio.Future[Answer]]:
    """Return the futures of a batch whose submitters still wait."""
    return [done for _, done in batch if not done.done()]

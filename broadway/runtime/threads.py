"""Work in threads: calls that may hang, and work that takes too long for the event loop."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

FEW = 500  # items, such as the students of a run, for which work takes a few milliseconds

T = TypeVar("T")
P = ParamSpec("P")


def in_own_thread(call: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Begin a call that may hang, in a daemon thread, which does not keep the program from exiting."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()  # from now on it cannot be cancelled while the thread works

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - raised again where the future is awaited
            future.set_exception(error)

    threading.Thread(target=work, daemon=True, name=name).start()
    return asyncio.wrap_future(future)


class FewThreads:
    """A few threads for long work. Further work waits until one is free, also if the callers of the others have gone.

    Args:
        count: The number of threads.
        name: The beginning of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Return the result of work in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **options))


async def beside(items: int, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Return the result of work on some items; work on many of them runs in a thread, beside the event loop."""
    if items <= FEW:
        return work(*args, **options)
    return await asyncio.to_thread(work, *args, **options)

"""Calls that may hang, in threads of their own."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


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

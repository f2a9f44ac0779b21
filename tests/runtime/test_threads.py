"""A few threads for long work: beside the event loop, and never more of them."""

import asyncio
import contextlib
import threading

from broadway.runtime.threads import FewThreads


async def test_work_runs_in_another_thread_and_its_error_is_raised() -> None:
    threads = FewThreads(1, "sheets")

    assert await threads.run(threading.get_ident) != threading.get_ident()
    with contextlib.suppress(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
        raise AssertionError("the error was lost")


async def test_further_work_waits_even_if_the_first_caller_has_gone() -> None:
    threads, begun, gate = FewThreads(1, "sheets"), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        gate.wait()

    gone = asyncio.create_task(threads.run(first))
    await asyncio.to_thread(begun.wait)
    gone.cancel()
    second = asyncio.create_task(threads.run(gate.is_set))
    await asyncio.sleep(0)
    gate.set()

    assert await second, "the second work began after the first had ended"

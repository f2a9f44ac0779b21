"""Pauses after questions that keep a store busy, so that others get their turn."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

LONGEST = 1.0  # seconds of a pause: a question may have waited for a store that was away

T = TypeVar("T")


async def spaced(question: Awaitable[T]) -> T:
    """Answer a question, and then wait for as long as it took, or for ``LONGEST``.

    A question about all jobs of a large run or course may take the embedded store most of a second, and other requests
    wait meanwhile. Work in the background must not ask several of them in a row.
    """
    begun = time.monotonic()
    answer = await question
    await asyncio.sleep(min(LONGEST, time.monotonic() - begun))
    return answer

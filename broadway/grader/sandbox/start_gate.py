"""A gate that staggers the starts of containers, which slow each other down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

WAIT_FRACTION = 0.5  # the maximum wait, as a fraction of the stages' average duration
MAX_WAIT = 1.0  # seconds; the maximum wait
FIRST_GUESS = 1.0  # seconds; the assumed duration of a stage before any is measured
SMOOTHING = 0.2


class StartGate:
    """Limits the number of containers that start at the same time, for a bounded wait.

    Overlapping starts take longer than starts in sequence, and stages that began together would end and begin together
    forever. The wait is bounded because very short stages would only be delayed by it, and because a start that hangs
    must not block other starts.

    Args:
        at_a_time: The number of starts that do not slow each other down.
        longest: The maximum wait in seconds.
    """

    def __init__(self, at_a_time: int, *, longest: float = MAX_WAIT) -> None:
        self._longest = longest
        self._free = asyncio.Semaphore(at_a_time)
        self._seconds = FIRST_GUESS

    @property
    def max_wait(self) -> float:
        """The number of seconds after which a start stops waiting and goes ahead."""
        return min(self._longest, WAIT_FRACTION * self._seconds)

    def note(self, seconds: float) -> None:
        """Record the duration of a stage in seconds, without its start."""
        self._seconds += SMOOTHING * (seconds - self._seconds)

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn, at most ``max_wait`` seconds, and hold it while the block lasts."""
        async with contextlib.AsyncExitStack() as turn:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.max_wait):
                    await turn.enter_async_context(self._free)
            yield

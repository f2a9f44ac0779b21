"""Taking turns in what slows down whatever does the same meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

SHARE = 0.5  # of what stages take here: whoever has waited as long goes ahead
LONGEST = 1.0  # seconds that anybody waits
FIRST_GUESS = 1.0  # seconds that stages take
SMOOTHING = 0.2


class StartGate:
    """Who may start a container now.

    Starts that overlap take longer than one after another, and stages that have begun together would end and begin
    together for ever. Where stages are so short that an engine does nothing but start them, turns would only hold it
    up; and a start that hangs must not hold up others.

    Args:
        at_a_time: Starts that do not disturb each other.
        longest: The limit of a wait, in seconds.
    """

    def __init__(self, at_a_time: int, *, longest: float = LONGEST) -> None:
        self._longest = longest
        self._free = asyncio.Semaphore(at_a_time)
        self._seconds = FIRST_GUESS

    @property
    def patience(self) -> float:
        """Seconds after which whoever waits goes ahead."""
        return min(self._longest, SHARE * self._seconds)

    def note(self, seconds: float) -> None:
        """A stage has taken so long, without its start."""
        self._seconds += SMOOTHING * (seconds - self._seconds)

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a turn, but not beyond one's patience, and keep it while the block lasts."""
        async with contextlib.AsyncExitStack() as turn:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.patience):
                    await turn.enter_async_context(self._free)
            yield

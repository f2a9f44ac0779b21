"""Calls whose results many callers share.

A shared call starts after all its callers have asked, so no caller gets stale data. If no call of the key runs, the
first caller does not wait for others.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

Turn = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(slots=True, eq=False)
class _Line(Generic[Value]):
    """The calls of one key: one may run, and one may wait for its end, with all who have asked since."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    next: "_Call[Value] | None" = None
    calls: int = 0
    quiet_until: float = 0.0


@dataclass(slots=True, eq=False)
class _Call(Generic[Value]):
    task: "asyncio.Task[Value] | None" = None
    callers: int = 0


class SharedCalls(Generic[Key, Value]):
    """Calls by key, one at a time for each key.

    Args:
        call: The call to share.
        turn: A context that each call needs besides, for a limit on the calls of all keys.
        share: The part of the time that the calls of one key take at most: after a call, the next one waits.
        longest_rest: Seconds of such a wait at most.
    """

    def __init__(
        self,
        call: Callable[[Key], Awaitable[Value]],
        *,
        turn: Turn = nullcontext,
        share: float = 1.0,
        longest_rest: float = 0.25,
    ) -> None:
        self._call = call
        self._turn = turn
        self._rest = 1 / share - 1
        self._longest_rest = longest_rest
        self._lines: dict[Key, _Line[Value]] = {}

    def __len__(self) -> int:
        """Return the number of keys that are being called, or rest."""
        return len(self._lines)

    async def get(self, key: Key) -> Value:
        """Return the result of a call that starts after this moment, or raise its error.

        A call is cancelled when all its callers are.
        """
        line = self._lines.setdefault(key, _Line())
        call = line.next
        if call is None:
            call = line.next = _Call()
            line.calls += 1
            call.task = asyncio.create_task(self._run(key, line, call))
        assert call.task is not None  # noqa: S101 - for the type checker
        call.callers += 1
        try:
            return await asyncio.shield(call.task)
        finally:
            call.callers -= 1
            if not call.callers and not call.task.done():
                self._begin(line, call)
                call.task.cancel()

    async def _run(self, key: Key, line: _Line[Value], call: _Call[Value]) -> Value:
        loop = asyncio.get_running_loop()
        try:
            async with line.lock:
                await asyncio.sleep(line.quiet_until - loop.time())
                async with self._turn():
                    self._begin(line, call)
                    begun = time.monotonic()  # loop.time() may not advance within one turn of the loop
                    try:
                        return await self._call(key)
                    finally:
                        rest = min(self._longest_rest, (time.monotonic() - begun) * self._rest)
                        line.quiet_until = loop.time() + rest
        finally:
            self._begin(line, call)
            line.calls -= 1
            loop.call_at(line.quiet_until, self._forget, key, line)

    def _begin(self, line: _Line[Value], call: _Call[Value]) -> None:
        """Let callers from now on share the next call."""
        if line.next is call:
            line.next = None

    def _forget(self, key: Key, line: _Line[Value]) -> None:
        if not line.calls and self._lines.get(key) is line:
            del self._lines[key]

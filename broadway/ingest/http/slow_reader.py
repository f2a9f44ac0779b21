"""The end of connections whose clients do not read their answers."""

import asyncio

from broadway.runtime import metrics
from broadway.runtime.metrics import Limit

CHECK_EVERY = 30.0  # seconds
MIN_READ = 16 * 1024  # bytes that a client must read between two checks, if so many wait for it


class SlowReader:
    """Watches a connection while it has data that its client has not read, and cuts it if that stays so."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        # So that the protocol hears of any unread data. With 0, a connection with TLS counts as full while it is empty.
        transport.set_write_buffer_limits(high=1, low=0)
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin to watch."""
        if self._timer is None:
            self._wait(self._transport.get_write_buffer_size())

    def stop(self) -> None:
        """End to watch: the client has read everything, or the connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, unread: int) -> None:
        self._timer = self._loop.call_later(CHECK_EVERY, self._check, unread)

    def _check(self, before: int) -> None:
        unread = self._transport.get_write_buffer_size()
        if unread > before - MIN_READ:
            metrics.HTTP_LIMITED.labels(Limit.SLOW).inc()
            self._transport.abort()
        else:
            self._wait(unread)

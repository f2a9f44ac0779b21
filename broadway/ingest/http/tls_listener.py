"""A listener for TLS whose connections count as such before their handshakes are complete."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from broadway.ingest.http.admission import ClientLimits, LimitError
from broadway.ingest.http.connection import HttpProtocol
from broadway.runtime.cancellation import end

HANDSHAKE_WITHIN = 10.0  # seconds
NO_DESCRIPTOR_PAUSE = 0.1  # seconds before the next try while the process has no file descriptor for a connection


class TlsListener:
    """Accepts connections; the event loop's own server would count and refuse them only after their handshakes."""

    def __init__(
        self,
        listening: Sequence[socket.socket],
        context: ssl.SSLContext,
        admission: ClientLimits,
        protocol: Callable[[], HttpProtocol],
    ) -> None:
        self.sockets = listening
        self._context = context
        self._admission = admission
        self._protocol = protocol
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting = [asyncio.create_task(self._accept(each)) for each in listening]

    def close(self) -> None:
        for task in (*self._accepting, *self._handshakes):
            task.cancel()

    async def wait_closed(self) -> None:
        await end(*self._accepting, *self._handshakes)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    self._begin(*await loop.sock_accept(listening))
                except OSError:
                    await asyncio.sleep(NO_DESCRIPTOR_PAUSE)

    def _begin(self, accepted: socket.socket, peer: Any) -> None:
        try:
            self._admission.connect(accepted, peer[0])
        except LimitError:
            accepted.close()  # there can be no answer before a handshake
            return
        task = asyncio.create_task(self._shake_hands(accepted))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, accepted: socket.socket) -> None:
        protocol = self._protocol()
        protocol.accepted = accepted
        try:
            with contextlib.suppress(OSError):  # no TLS, a broken connection, or no handshake in time
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: protocol, accepted, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_WITHIN
                )
        finally:
            self._admission.disconnect(accepted)  # unless the protocol has taken its place


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Return a listening socket for each address of a host.

    Raises:
        OSError: An address cannot be bound.
    """
    with contextlib.ExitStack() as bound:
        sockets = []
        for family, kind, number, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            each = bound.enter_context(socket.socket(family, kind, number))
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(address)
            each.listen(backlog)
            each.setblocking(False)
            sockets.append(each)
        bound.pop_all()
    return sockets

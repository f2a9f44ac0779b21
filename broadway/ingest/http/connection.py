"""HTTP connections, with limits that hold before any request has a token."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.utils import get_remote_addr

from broadway.ingest.http.admission import ClientLimits, Held, LimitError
from broadway.ingest.http.slow_reader import SlowReader
from broadway.runtime import metrics
from broadway.runtime.metrics import Limit

HEADERS_WITHIN = 30.0  # seconds that a client may take to send the head of a request

MAX_HEAD = 64 * 1024  # bytes of a request's first line and header lines
MAX_LINES = 256  # header lines, including those after the body
SMALL_HEAD = 8 * 1024  # bytes; a longer head counts as MAX_HEAD bytes of memory for bodies
MAX_FRAMING = 64 * 1024  # bytes of a body besides its content and CHUNK_LINE for each chunk
CHUNK_LINE = 32  # bytes
MAX_PIPELINED = 16  # requests that wait for the answer to an earlier one on their connection
PIECE = 64 * 1024  # bytes that the parser gets at a time

LINGER = 5.0  # seconds for which the rest of a request is discarded: to close at once could destroy its answer

ABORT = "broadway.abort"  # the scope's extension that cuts a connection without waiting for its client

# The original's graders take this status as "no job yet, poll again".
httptools_impl.STATUS_LINE[498] = b"HTTP/1.1 498 Unknown\r\n"


class _Refusal(Exception):  # noqa: N818 - it only stops the parser
    """A request that a limit stops."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__()
        self.status = status


class _Output:
    """The transport of one answer. To close while the client is still sending could destroy the answer."""

    def __init__(self, protocol: "HttpProtocol") -> None:
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._protocol.close_after_answer()


class HttpProtocol(httptools_impl.HttpToolsProtocol):
    """One client's connection. ``accepted`` has the place that it takes over, None without TLS."""

    accepted: socket.socket | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._admission: ClientLimits = self.config.admission  # type: ignore[attr-defined]
        self._reader: SlowReader | None = None
        self._deadline: asyncio.TimerHandle | None = None  # of a head
        self._discarding: asyncio.TimerHandle | None = None  # the end of a connection whose input is not read any more
        self._rest: asyncio.TimerHandle | None = None  # the end of a body whose request is answered already
        self._memory: Held | None = None  # for a long head
        self._is_websocket = False
        self._in_head = True
        self._is_first = True  # False once a message has ended in the piece that is being parsed
        self._head = 0  # bytes of the present head in earlier pieces
        self._text = 0  # bytes of its URL, names and values
        self._lines = self._chunks = self._content = self._framing = 0
        self._running: httptools_impl.RequestResponseCycle | None = None  # the request that is being answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = get_remote_addr(transport)
        host = peer[0] if peer else ""
        try:
            self._admission.connect(transport, host, self.accepted)
        except LimitError as error:
            self._answer(error.status, str(error), error.headers)
            transport.close()
            return
        self._memory = Held(self._admission.memory, self._admission.address_of_peer(host))
        self._reader = SlowReader(transport, self.loop)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._discarding, self._rest):
            if timer is not None:
                timer.cancel()
        if self._reader:
            self._reader.stop()
        self._release()
        self._admission.disconnect(self.transport)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._is_websocket = True
        self._release()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader:
            self._reader.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader:
            self._reader.stop()

    def data_received(self, data: bytes) -> None:
        """Parse what arrives, in pieces that cannot exceed the limit on a head."""
        rest = memoryview(data)
        while rest and self._is_reading():
            size = MAX_HEAD - self._head if self._in_head else PIECE
            self._parse(rest[:size])
            rest = rest[size:]
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._in_head and self._deadline is None and self._is_reading():
            self._await_head()  # no request has begun: line breaks before it are no sign of life

    def _is_reading(self) -> bool:
        return self._discarding is None and not self._is_websocket and not self.transport.is_closing()

    def _parse(self, piece: memoryview) -> None:
        was_in_head = self._in_head
        self._is_first, self._content = True, 0
        super().data_received(piece)  # type: ignore[arg-type]
        if not self._is_reading():
            return
        if self._in_head:
            # In a piece with several requests, the bytes of the last one cannot be told from those of the others.
            self._head = self._head + len(piece) if self._is_first else 0
        elif not was_in_head and self._is_first:
            self._framing += len(piece) - self._content
        if self._head >= MAX_HEAD or self._framing > MAX_FRAMING + CHUNK_LINE * self._chunks:
            has_no_lines = self._in_head and not self._lines
            self._refuse(
                HTTPStatus.REQUEST_URI_TOO_LONG if has_no_lines else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            )
        elif self._head > SMALL_HEAD:
            try:
                self._hold()
            except LimitError as error:
                self._refuse(error)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._text = self._lines = self._chunks = self._framing = 0
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]
        if self._deadline is None:
            self._await_head()

    def on_url(self, url: bytes) -> None:
        self._text += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        self._text += len(name) + len(value)
        if self._lines > MAX_LINES:
            raise _Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._in_head:  # header lines after the body are not the request's: the handler may have read those before
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._in_head, self._head = False, 0
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Refusal(HTTPStatus.TOO_MANY_REQUESTS)
        if self._text > SMALL_HEAD:
            self._hold()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # not for a WebSocket
            self.cycle.transport = _Output(self)  # type: ignore[assignment]

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        self._content += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._is_first, self._head, self._framing = True, False, 0, 0
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        super().on_message_complete()

    # Answers and ends

    def _start_asgi_task(self, cycle: httptools_impl.RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._release()
        if not self._in_head and self.cycle.response_complete and self._rest is None and self._discarding is None:
            self._rest = self.loop.call_later(LINGER, self._give_up)

    def shutdown(self) -> None:
        if self._discarding is not None:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - our own texts are below
        """Refuse a request that the parser or one of its callbacks has stopped."""
        error = sys.exception()
        why = error.__context__ if error else None
        if isinstance(why, _Refusal):
            self._refuse(why.status)
        else:
            self._refuse(why if isinstance(why, LimitError) else HTTPStatus.BAD_REQUEST)

    def _refuse(self, why: LimitError | HTTPStatus) -> None:
        """Refuse the request that is arriving, and discard the rest of it."""
        if isinstance(why, HTTPStatus) and why is not HTTPStatus.BAD_REQUEST:
            metrics.HTTP_LIMITED.labels(Limit.HEAD).inc()
        # While an earlier request is not answered, an answer to this one would be taken for the earlier one's.
        running = self._running if self._running and not self._running.response_complete else None
        is_current = running is self.cycle and not self._in_head
        if running is None or (is_current and not running.response_started):
            if isinstance(why, LimitError):
                self._answer(why.status, str(why), why.headers)
            else:
                self._answer(why, _TEXTS[why], {})
        if running is not None:  # its handler learns that the client is gone
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        self._discard()

    def _discard(self) -> None:
        """End the connection for the client, and discard what it still sends for a moment."""
        self._stop_waiting()
        self._discarding = self.loop.call_later(LINGER, self.transport.abort)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def close_after_answer(self) -> None:
        """Close the connection, at once if its client has sent the whole request."""
        if self._in_head:
            self.transport.close()
        elif self._discarding is None:
            self._discard()

    def _answer(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        lines = {
            "content-type": "text/plain; charset=utf-8",
            "content-length": str(len(text)),
            "connection": "close",
            **headers,
        }
        head = b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
        self.transport.write(httptools_impl.STATUS_LINE[status] + head + b"\r\n" + text.encode())

    def _hold(self) -> None:
        """Count a long head as memory, once.

        Raises:
            LimitError: There is too little.
        """
        if self._memory is not None and not self._memory.amount:
            self._memory.take(MAX_HEAD)

    def _release(self) -> None:
        if self._memory is not None:
            self._memory.release()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEADERS_WITHIN, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


_TEXTS = {
    HTTPStatus.BAD_REQUEST: "Invalid HTTP request received.",
    HTTPStatus.REQUEST_URI_TOO_LONG: f"the request's first line and header lines may have {MAX_HEAD} bytes together",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: (
        f"a request may have {MAX_LINES} header lines, and {MAX_HEAD} bytes with its first line"
    ),
    HTTPStatus.TOO_MANY_REQUESTS: f"{MAX_PIPELINED} requests on this connection wait for answers already",
}

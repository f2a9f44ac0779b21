"""Zips that are made while they are sent."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ZipSink(io.RawIOBase):
    """A stream that cannot seek, whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: "Buffer") -> int:
        piece = bytes(data)
        self._waiting += piece
        return len(piece)

    def taken(self) -> bytes:
        """Return the bytes that came since the last call."""
        waiting = bytes(self._waiting)
        self._waiting.clear()
        return waiting

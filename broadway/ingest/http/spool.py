"""Bodies that are kept on disk while they arrive, since their senders are not known yet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import SpooledTemporaryFile

from starlette.requests import Request

from broadway.ingest.http.bodies import pieces
from broadway.ingest.http.visit import visit_of

IN_MEMORY = 32 * 1024  # bytes of each body; most deliveries are shorter


class SpoolError(OSError):
    """The spool's directory takes no data."""


class SpooledBody:
    """The body of a request. Its file has no name, so that nothing stays after a crash."""

    def __init__(self, request: Request, file: "SpooledTemporaryFile[bytes]") -> None:
        self._visit = visit_of(request)
        self._request = request
        self._file = file
        self._size = 0

    async def arriving(self, *, limit: int) -> AsyncIterator[bytes]:
        """Yield each piece of the body as it arrives, after it is spooled.

        Raises:
            BodyTooLargeError: The body has more than ``limit`` bytes; the rest is not read.
            BodyTooSlowError: The body did not arrive in time.
            LimitError: The spool has no room.
            SpoolError: The spool's directory takes no data.
        """
        async for piece in pieces(self._request, limit=limit):
            self._visit.spool.take(len(piece))
            self._size += len(piece)
            try:
                if self._size <= IN_MEMORY:
                    self._file.write(piece)
                else:
                    await asyncio.to_thread(self._file.write, piece)
            except OSError as error:
                raise SpoolError(error.errno, error.strerror) from error
            yield piece

    async def content(self) -> bytes:
        """Return the whole body, from now on in memory.

        Raises:
            LimitError: The memory for bodies is used up.
        """
        self._visit.memory.take(self._size)
        self._file.seek(0)
        return self._file.read() if self._size <= IN_MEMORY else await asyncio.to_thread(self._file.read)


@contextlib.asynccontextmanager
async def spooled(request: Request, directory: Path) -> AsyncIterator[SpooledBody]:
    """Open the spool for a request's body, and remove the body at the end."""
    with SpooledTemporaryFile(IN_MEMORY, dir=str(directory)) as file:
        yield SpooledBody(request, file)
    visit_of(request).spool.release()

"""Contents of students' files on this host, by digest, within a bound: the least recently used ones are removed."""

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO
from weakref import WeakValueDictionary

import structlog

from broadway.runtime.cancellation import finish

log = structlog.get_logger(__name__)

PIECE = 1024 * 1024  # bytes that are copied at a time
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = "part-"  # before the name of a content that is arriving

Fetch = Callable[[str], AsyncGenerator[bytes]]


class WrongContentError(Exception):
    """Bytes have another digest than they should."""


class FileCache:
    """Contents in a directory of this grader's own.

    Args:
        directory: The directory; files of an earlier process in it are used.
        most: The bytes that all contents together may have.
    """

    def __init__(self, directory: Path, most: int) -> None:
        self._directory = directory
        self._most = most
        self._sizes: OrderedDict[str, int] = OrderedDict()  # by digest, the least recently used one first
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        for path in sorted(directory.iterdir(), key=lambda each: each.lstat().st_mtime):
            if _DIGEST.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                self._sizes[path.name] = path.stat().st_size
            else:
                _discard(path)

    async def copy(self, sha256: str, target: Path, *, mode: int, fetch: Fetch) -> None:
        """Copy a content to a new file, and fetch it first if it is not here, or has changed on this disk.

        Raises:
            WrongContentError: The fetched bytes have another digest.
            OSError: The file cannot be written.
        """
        for _ in range(2):
            with await self._opened(sha256, fetch) as source:
                # A copy that is cancelled ends first, since the job's directory is removed then.
                if await finish(asyncio.to_thread(_copy, source, target, sha256, mode)):
                    return
            log.error("a stored file has changed on this disk; fetching it again", sha256=sha256)
            self._remove(sha256)
        raise WrongContentError(f"the file {sha256} changes on this disk")

    async def _opened(self, sha256: str, fetch: Fetch) -> BinaryIO:
        """Open a content; it stays readable even if it is removed meanwhile."""
        lock = self._locks.setdefault(sha256, asyncio.Lock())
        async with lock:
            path = self._directory / sha256
            if sha256 in self._sizes:
                with contextlib.suppress(OSError):  # removed, or replaced by something else
                    source = path.open("rb")
                    self._sizes.move_to_end(sha256)
                    os.utime(path)
                    return source
            self._remove(sha256)
            size = await self._fetch(sha256, path, fetch)
            source = path.open("rb")
            self._sizes[sha256] = size
            self._make_room()
            return source

    async def _fetch(self, sha256: str, path: Path, fetch: Fetch) -> int:
        """Fetch a content to its place; return its size."""
        part, digest, size = path.with_name(f"{_PART}{token_hex(8)}"), hashlib.sha256(), 0
        try:
            with part.open("xb") as file:
                async with contextlib.aclosing(fetch(sha256)) as pieces:
                    async for piece in pieces:
                        digest.update(piece)
                        size += await asyncio.to_thread(file.write, piece)
            if digest.hexdigest() != sha256:
                raise WrongContentError(f"the API sent other bytes than those of the file {sha256}")
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        return size

    def _make_room(self) -> None:
        total = sum(self._sizes.values())
        while total > self._most and self._sizes:
            sha256, size = next(iter(self._sizes.items()))
            self._remove(sha256)
            total -= size

    def _remove(self, sha256: str) -> None:
        self._sizes.pop(sha256, None)
        _discard(self._directory / sha256)


def _discard(path: Path) -> None:
    """Remove a file, or a directory that should not be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: BinaryIO, target: Path, sha256: str, mode: int) -> bool:
    """Copy a file and return whether its bytes have the digest; blocks."""
    digest = hashlib.sha256()
    with target.open("wb") as copy:
        while piece := source.read(PIECE):
            digest.update(piece)
            copy.write(piece)
    target.chmod(mode)
    return digest.hexdigest() == sha256

"""The names of pulled images beside their store: the id that a name had when its place was last asked."""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from broadway.grader.sandbox import tree

_POLL = 0.1  # seconds between two tries for a lock


@dataclass(frozen=True, slots=True)
class Named:
    """An image's id, and the time at which its place named it, in seconds since the epoch."""

    image_id: str
    asked_at: float


class Names:
    """The names in a store's directory, which the graders of one host share.

    Args:
        directory: The store's directory.
        place: The place of the images: the same name may mean another image elsewhere.
    """

    def __init__(self, directory: Path, place: str) -> None:
        self._names = directory / "names"
        self._pulls = directory / "pulls"
        self._place = place
        for each in (self._names, self._pulls):
            each.mkdir(exist_ok=True)

    def get(self, name: str) -> Named | None:
        """Return the id that a name had; None if it is not known."""
        return _read(self._names / self._key(name))

    def put(self, name: str, image_id: str) -> None:
        """Keep the id that a name has now; within ``pulling``, so that an interruption leaves nothing."""
        file = self._names / self._key(name)
        partial = self._pulls / self._key(name) / "name"
        document = {"name": name, "place": self._place, "image": image_id, "asked_at": time.time()}
        partial.write_text(json.dumps(document))
        partial.rename(file)

    @contextlib.asynccontextmanager
    async def pulling(self, name: str) -> AsyncIterator[tuple[Path, int]]:
        """Yield an empty directory for a pull, and the lock's descriptor; only one pull of a name holds it at a time.

        The remains of an interrupted pull are removed. A program that inherits the descriptor prolongs the lock.
        """
        directory = self._pulls / self._key(name)
        while (lock := _locked(directory.with_suffix(".lock"))) is None:  # noqa: ASYNC110 - a process may hold it
            await asyncio.sleep(_POLL)
        try:
            await asyncio.to_thread(_empty, directory)
            directory.mkdir()
            try:
                yield directory, lock
            finally:
                _empty(directory)
        finally:
            os.close(lock)

    def collect(self, has: Callable[[str], bool]) -> None:
        """Remove the remains of interrupted pulls, and the names of images that are not here; blocks."""
        for file in self._pulls.glob("*.lock"):
            if (lock := _locked(file)) is not None:
                _empty(file.with_suffix(""))
                file.unlink()
                os.close(lock)
        for file in self._names.iterdir():
            known = _read(file)
            if known is None or not has(known.image_id):
                file.unlink(missing_ok=True)

    def _key(self, name: str) -> str:
        return hashlib.sha256(f"{self._place}\n{name}".encode()).hexdigest()


def _read(file: Path) -> Named | None:
    try:
        kept = json.loads(file.read_bytes())
        return Named(str(kept["image"]), float(kept["asked_at"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _locked(file: Path) -> int | None:
    """Return the descriptor of a locked file, which is made if it is missing; None if another process has the lock."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if os.fstat(lock).st_nlink:
        return lock
    os.close(lock)  # it was removed before it was locked
    return None


def _empty(directory: Path) -> None:
    if directory.exists():
        tree.remove_all(directory)

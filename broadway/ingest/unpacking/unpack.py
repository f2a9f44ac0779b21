"""Unpack an archive in a process of its own, so that no archive harms the API or costs it more than a moment."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from broadway.domain.files import FileLimits, FileRefusedError, SubmittedFile
from broadway.ingest.unpacking import child

log = structlog.get_logger(__name__)

WITHIN = 60.0  # seconds
AT_ONCE = 2  # archives that are unpacked at the same time
YOUNG = 60.0  # seconds; a directory of that age may not be locked yet
_PREFIX = "broadway-unpack-"


class UnpackingUnavailableError(OSError):
    """This host cannot unpack archives at the moment, such as for want of disk space; no archive is at fault."""


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """A file of an archive: its entry in the manifest, and the place of its content for now."""

    file: SubmittedFile
    content: Path


class Unpacker:
    """Unpacks archives, a few at a time, below a directory."""

    def __init__(self, directory: Path, *, at_once: int = AT_ONCE, within: float = WITHIN) -> None:
        self._directory = directory
        self._turns = asyncio.Semaphore(at_once)
        self._within = within

    @asynccontextmanager
    async def unpacked(self, archive: BinaryIO, limits: FileLimits) -> AsyncIterator[Sequence[UnpackedFile]]:
        """Unpack an archive for the time of the context.

        Raises:
            FileRefusedError: The archive is broken, or has an entry that no submission may have.
            UnpackingUnavailableError: This host has no room for the files, or cannot start the program.
        """
        async with self._turns:
            with _unavailable():
                place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=_PREFIX, dir=self._directory))
            with _locked(place):
                try:
                    yield await self._unpack(archive, place, limits)
                finally:
                    await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def _unpack(self, archive: BinaryIO, place: Path, limits: FileLimits) -> list[UnpackedFile]:
        if os.geteuid() == 0:
            os.chown(place, child.NOBODY, child.NOBODY)
        archive.seek(0)
        arguments = map(str, (limits.upload, limits.unpacked, limits.files))
        with _unavailable():
            program = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", child.__name__, *arguments),
                stdin=archive,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=place,
                env={"LANG": "C.UTF-8"},
            )
        try:
            async with asyncio.timeout(self._within):
                report, _ = await program.communicate()
        except TimeoutError as error:
            raise FileRefusedError(f"the archive takes longer than {self._within:g} s to unpack") from error
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
        return _read(report, place, program.returncode or 0)


def remove_leftovers(directory: Path) -> None:
    """Remove the files that a killed process was unpacking below a directory; blocks."""
    for place in directory.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, of another user, or removed by another process
            if time.time() - place.stat().st_mtime > YOUNG:
                with _locked(place):
                    shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Keep the lock that says that a directory is in use; it ends with this process.

    Raises:
        BlockingIOError: Another one has it.
    """
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnpackingUnavailableError(error.errno, error.strerror) from error


def _read(report: bytes, place: Path, status: int) -> list[UnpackedFile]:
    lines = report.splitlines(keepends=True)
    first, *records = [json.loads(line) for line in lines if line.endswith(b"\n")] or [{}]  # the last may be cut
    last = records.pop() if records else {}
    if "refused" in last:
        raise FileRefusedError(last["refused"])
    if "begun" not in first or "failed" in last:
        raise UnpackingUnavailableError(last.get("failed", f"the program ended with status {status} before it began"))
    if "done" not in last:
        log.warning("an archive was not unpacked", status=status)
        raise FileRefusedError("the archive cannot be unpacked: it needs more memory or time than allowed")
    return [UnpackedFile(SubmittedFile(**record), place / str(number)) for number, record in enumerate(records)]

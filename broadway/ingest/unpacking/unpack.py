"""Unpack an archive in a process of its own, so that no archive harms the API or costs it more than a moment."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from broadway.domain.files import FileLimits, FileRefusedError, SubmittedFile
from broadway.ingest.unpacking import child

log = structlog.get_logger(__name__)

WITHIN = 60.0  # seconds
AT_ONCE = 2  # archives that are unpacked at the same time
_LONGEST_REPORT = 4 * 1024 * 1024  # bytes that the program may write about the files


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
        """
        async with self._turns:
            place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="unpack-", dir=self._directory))
            try:
                yield await self._unpack(archive, place, limits)
            finally:
                await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def _unpack(self, archive: BinaryIO, place: Path, limits: FileLimits) -> list[UnpackedFile]:
        if os.geteuid() == 0:
            os.chown(place, child.NOBODY, child.NOBODY)
        archive.seek(0)
        arguments = map(str, (limits.upload, limits.unpacked, limits.files))
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", child.__name__, *arguments),
            stdin=archive,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=place,
            env={"LANG": "C.UTF-8"},
            limit=_LONGEST_REPORT,
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


def _read(report: bytes, place: Path, status: int) -> list[UnpackedFile]:
    records = [json.loads(line) for line in report.splitlines()]
    last = records.pop() if records else {}
    if "refused" in last:
        raise FileRefusedError(last["refused"])
    if "done" not in last:
        log.warning("an archive was not unpacked", status=status)
        raise FileRefusedError("the archive cannot be unpacked: it needs more memory or time than allowed")
    return [UnpackedFile(SubmittedFile(**record), place / str(number)) for number, record in enumerate(records)]

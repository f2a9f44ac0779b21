"""Outcomes on disk that are not confirmed yet: a redelivered job is reported from here and does not run again.

All of them are in one file, to which records are appended: ``+`` an outcome, ``-`` the starts whose outcomes are
confirmed. Each record is a line with a checksum, so a record that a crash has torn is ignored, and its job's message,
which was not acknowledged, is delivered again.
"""

import asyncio
import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import structlog
from pydantic import ValidationError

from broadway.domain.mistakes import mistakes
from broadway.grader.worker.starts import AboutJob
from broadway.runtime.crashpoints import Point, reach_blocking

log = structlog.get_logger(__name__)

NAME = "outcomes.log"
MAX_SIZE = 1024 * 1024  # bytes of the file, or twice the outcomes in it, before it is written anew
LINGER = 0.5  # seconds for which confirmed starts wait for the next outcome, to be written with it

Start = tuple[str, int, int]


class SpooledModel(AboutJob, Protocol):
    """An outcome that can be stored as JSON and read again."""

    def model_dump_json(self) -> str:
        """Return the outcome as JSON."""

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> Self:
        """Read an outcome from JSON.

        Raises:
            ValueError: The text is not a valid outcome.
        """


Outcome = TypeVar("Outcome", bound=SpooledModel)


class Spool(Generic[Outcome]):
    """The outcomes of type ``kind`` in a directory, which this process alone uses; one for each start of a job.

    It reads the files of earlier versions, which had one ``.json`` file for each outcome.
    """

    def __init__(self, directory: Path, kind: type[Outcome]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = _File(directory)
        self._kept: dict[Start, Outcome] = unreported(directory, kind)
        self._confirmed: list[Start] = []
        self._waiting: list[tuple[Outcome, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._file.adopt([_line(outcome) for outcome in self._kept.values()])

    async def put(self, outcome: Outcome) -> None:
        """Return once an outcome is durable. Outcomes that arrive while others are written share one write and sync.

        Raises:
            OSError: It was not written, because the file system is full or broken.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((outcome, done))
        self._begin()
        await done

    def get(self, job: AboutJob) -> Outcome | None:
        """Return the spooled outcome of a start of a job, or None."""
        return self._kept.get(_start(job))

    def remove(self, outcome: Outcome) -> None:
        """Forget an outcome that has been confirmed. The disk learns it a moment later; it may be reported twice."""
        if self._kept.pop(_start(outcome), None) is not None:
            self._confirmed.append(_start(outcome))
            self._begin_later()

    def __iter__(self) -> Iterator[Outcome]:
        return iter([self._kept[start] for start in sorted(self._kept)])

    def close(self) -> None:
        """Leave on disk only what is not confirmed, and no file if everything is."""
        if self._timer:
            self._timer.cancel()
        if not self._writing or self._writing.done():
            with contextlib.suppress(OSError):
                self._file.end([_line(outcome) for outcome in self._kept.values()])
        self._file.close()

    def _begin_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._begin)

    def _begin(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Write what waits, and then what has arrived meanwhile, until nothing waits."""
        while self._waiting or self._confirmed:
            batch, self._waiting = self._waiting, []
            try:
                await self._store([outcome for outcome, _ in batch])
            except asyncio.CancelledError:
                _cancel([*batch, *self._waiting])
                self._waiting = []
                raise
            except Exception as error:  # noqa: BLE001 - the submitters raise it
                for done in _pending(batch):
                    done.set_exception(error)
                if not self._waiting:
                    return
            else:
                self._kept.update({_start(outcome): outcome for outcome, _ in batch})
                for done in _pending(batch):
                    done.set_result(None)

    async def _store(self, outcomes: Sequence[Outcome]) -> None:
        """Write some outcomes, and the starts whose outcomes have been confirmed; without outcomes nothing is synced.

        Raises:
            OSError: They were not written.
        """
        confirmed, self._confirmed = self._confirmed, []
        if self._timer:
            self._timer.cancel()
            self._timer = None
        lines = [_line(outcome) for outcome in outcomes]
        if confirmed:
            lines.insert(0, _framed(b"-", json.dumps(confirmed).encode()))
        is_full = self._file.size > MAX_SIZE or not self._kept
        kept = [_line(outcome) for outcome in self._kept.values()] if is_full else None
        try:
            await asyncio.to_thread(self._file.append, lines, kept, durable=bool(outcomes))
        except BaseException:
            self._confirmed = [*confirmed, *self._confirmed]
            self._begin_later()
            raise


class _File:
    """The file of a spool. One thread at a time uses it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / NAME
        self._descriptor: int | None = None
        self.size = 0

    def adopt(self, kept: Sequence[bytes]) -> None:
        """Begin the file with the outcomes of earlier processes, and remove their files once they are in it."""
        earlier = [path for path in _files(self._directory) if path != self._path]
        try:
            self.size = self._without_torn_end()
            if not earlier and not self.size:
                return
            self.rewrite(kept)
            for path in earlier:
                path.unlink()
        except OSError as error:
            log.warning("the spool keeps its earlier files", directory=str(self._directory), reason=str(error))

    def append(self, lines: Sequence[bytes], kept: Sequence[bytes] | None, *, durable: bool) -> None:
        """Append lines. ``kept`` are the lines that are not confirmed; None if the file need not be written anew.

        Raises:
            OSError: The lines are not in the file; all lines that are kept are.
        """
        if kept is not None and self.size > max(MAX_SIZE, 2 * sum(map(len, kept))):
            with contextlib.suppress(OSError):  # the file may still have room
                self.rewrite(kept)
        data = b"".join(lines)
        try:
            self._append(data, durable=durable)
        except OSError:
            if kept is None or kept or not self.size:
                raise
            os.ftruncate(self._open(), 0)  # all of it is confirmed, and takes the room
            self.size = 0
            self._append(data, durable=durable)

    def rewrite(self, lines: Sequence[bytes]) -> None:
        """Replace the file at once, durably.

        Raises:
            OSError: The file is as it was.
        """
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, b"".join(lines))
            os.fdatasync(descriptor)
            draft.replace(self._path)
        except OSError:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        self.close()
        self._descriptor, self.size = descriptor, sum(map(len, lines))
        self._sync_directory()

    def end(self, kept: Sequence[bytes]) -> None:
        """Leave a file of these lines, or no file.

        Raises:
            OSError: The file is as it was.
        """
        if kept:
            self.rewrite(kept)
        else:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, data: bytes, *, durable: bool) -> None:
        descriptor = self._open()
        try:
            _write(descriptor, data)
            reach_blocking(Point.SPOOL_APPENDED if durable else Point.SPOOL_CONFIRMED)
            if durable:
                os.fdatasync(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self.size)
            raise
        self.size += len(data)

    def _open(self) -> int:
        if self._descriptor is None:
            is_new = not self._path.exists()
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self.size = os.fstat(self._descriptor).st_size
            if is_new:
                self._sync_directory()
        return self._descriptor

    def _without_torn_end(self) -> int:
        """Cut off what a crash has left of a record at the end; return the size of the rest."""
        if not self._path.exists():
            return 0
        with self._path.open("rb+") as file:
            whole = sum(len(line) for line in file if line.endswith(b"\n"))
            file.truncate(whole)
        return whole

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def unreported(directory: Path, kind: type[Outcome]) -> dict[Start, Outcome]:
    """Read the outcomes of a directory that are not confirmed, by their starts. Unreadable records are left out."""
    found: dict[Start, Outcome] = {}
    for path in _files(directory):
        for sign, payload in _records(path):
            try:
                if sign == b"+":
                    outcome = kind.model_validate_json(payload)
                    found[_start(outcome)] = outcome
                else:
                    for job_id, generation, attempt in json.loads(payload):
                        found.pop((job_id, generation, attempt), None)
            except ValueError as error:
                reason = mistakes(error)[0] if isinstance(error, ValidationError) else str(error)
                log.warning("spooled outcome cannot be read", path=str(path), reason=reason)
    return found


def _files(directory: Path) -> list[Path]:
    """Return the files with outcomes, those of earlier versions and of other names of the deployment first."""
    own = directory / NAME
    others = [*directory.glob("*.json"), *(path for path in directory.glob("*.log") if path != own)]
    return [*sorted(others), *([own] if own.exists() else [])]


def _records(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of a file, each with its sign; the file of an earlier version is one outcome."""
    try:
        if path.suffix == ".json":
            yield b"+", path.read_bytes()
            return
        with path.open("rb") as lines:
            for line in lines:
                sign, checksum, payload = line[:1], line[1:9], line[10:-1]
                if line.endswith(b"\n") and checksum == _checksum(payload):
                    yield sign, payload
                else:
                    log.warning("torn record of the spool ignored", path=str(path), size=len(line))
    except OSError as error:
        log.warning("spooled outcomes cannot be read", path=str(path), reason=str(error))


def _line(outcome: SpooledModel) -> bytes:
    return _framed(b"+", outcome.model_dump_json().encode())


def _framed(sign: bytes, payload: bytes) -> bytes:
    return b"%b%b %b\n" % (sign, _checksum(payload), payload)


def _checksum(payload: bytes) -> bytes:
    return b"%08x" % zlib.crc32(payload)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _start(job: AboutJob) -> Start:
    return job.job_id, job.generation, job.attempt


def _cancel(batch: Sequence[tuple[Any, asyncio.Future[None]]]) -> None:
    for _, done in batch:
        done.cancel()


def _pending(batch: Sequence[tuple[Any, asyncio.Future[None]]]) -> list[asyncio.Future[None]]:
    return [done for _, done in batch if not done.done()]

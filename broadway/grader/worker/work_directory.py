"""A grader's work directory: its parts by deployment and grader, and the locks that show which processes use them."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import structlog

from broadway.grader.sandbox.process_identity import is_identity, own_identity
from broadway.service import SettingError

log = structlog.get_logger(__name__)

_DRAFT = "new-"  # prefix of a process's directory until it is locked
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TAKEN = {errno.EWOULDBLOCK, errno.EACCES}


@dataclass(frozen=True, slots=True)
class WorkDirectory:
    """The part of a work directory that belongs to one grader of one deployment.

    Args:
        root: The directory, which other graders and other deployments may use, too.
        deployment: The id of the deployment.
        grader_id: The grader's id.
        earlier: Names under which an earlier version, or this one before it knew its deployment, kept the spools.
    """

    root: Path
    deployment: str
    grader_id: str
    earlier: Sequence[str] = ()

    @property
    def jobs(self) -> Path:
        """The directory that holds the directories of all processes, of every deployment."""
        return self.root / "jobs"

    def spool(self, link: str, name: str) -> Path:
        """Return the directory of the unreported outcomes of a kind of link; move those of earlier versions there."""
        spools = self.root / "spool"
        directory = spools / self.deployment / link / name
        directory.mkdir(parents=True, exist_ok=True)
        original = spools / name if link == "amqp" else spools / link / name
        for source in (original, *(spools / each / link / name for each in self.earlier if each != self.deployment)):
            for path in _spooled(source) if source != directory else ():
                path.replace(directory / (path.name if path.suffix == ".json" else f"{token_hex(4)}-{path.name}"))
        return directory

    @property
    def files(self) -> Path:
        """The directory of the files of submissions that this grader keeps."""
        return self.root / "files" / self.deployment / self.grader_id

    @contextlib.contextmanager
    def process_directory(self) -> Iterator[Path]:
        """Create the directory of this process, which stays locked until the process ends; remove it if it is empty."""
        directory = self.jobs / self.deployment / self.grader_id / own_identity()
        descriptor = _create_locked(directory)
        try:
            yield directory
        finally:
            with contextlib.suppress(OSError):  # a job's directory could not be removed
                directory.rmdir()
            os.close(descriptor)


def _spooled(directory: Path) -> list[Path]:
    """Return the files of a spool, whose names are unique among all spools if they are of an earlier version."""
    return [*directory.glob("*.json"), *directory.glob("*.log")]


@contextlib.contextmanager
def held(root: Path, cluster: str, grader_id: str) -> Iterator[None]:
    """Hold the part of a work directory that belongs to a grader alone. ``cluster`` names the grader's API or broker.

    Raises:
        SettingError: A process on this host has the same grader id in the same cluster, and this work directory.
    """
    lock = root / "locks" / cluster / grader_id
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        if not _lock(file.fileno()):
            raise SettingError(
                f"grader {grader_id} already runs on this host with --work-dir {root}: "
                "give each grader an id of its own"
            )
        yield


@dataclass(frozen=True, slots=True)
class ProcessDirectory:
    """The directory of a grader's process. ``is_locking`` is false for a version that locks no directories."""

    path: Path
    is_locking: bool

    def is_locked(self) -> bool | None:
        """Return whether a living process has locked this directory; None for a version without locks.

        Locks hold across PID namespaces, and end with their process or with its host.
        """
        if not self.is_locking:
            return None
        try:
            descriptor = os.open(self.path, _DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            return not _lock(descriptor)
        finally:
            os.close(descriptor)


def process_directories(jobs: Path) -> list[ProcessDirectory]:
    """Return the directories of all processes in ``WorkDirectory.jobs``, those of earlier versions included."""
    return [
        ProcessDirectory(path, is_locking)
        for pattern, is_locking in (("*", False), ("*/*/*", True))
        for path in jobs.glob(pattern)
        if is_identity(path.name)
    ]


def _create_locked(directory: Path) -> int:
    """Create a process directory that is locked from the beginning; return the descriptor that holds the lock."""
    draft = directory.with_name(_DRAFT + directory.name)
    while True:
        draft.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, _DIRECTORY)
        try:
            _lock(descriptor)
            draft.rename(directory)
        except FileNotFoundError:  # another grader has taken the draft for a leftover
            os.close(descriptor)
        except OSError:  # an earlier grader of this process has left its directory, with files in it
            os.close(descriptor)
            draft.rmdir()
            descriptor = os.open(directory, _DIRECTORY)
            _lock(descriptor)
            return descriptor
        else:
            return descriptor


def _lock(descriptor: int) -> bool:
    """Lock an open file or directory; return False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        log.warning("this file system has no locks", reason=error.strerror)
    return True

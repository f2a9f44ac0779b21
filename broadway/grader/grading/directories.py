"""The directories of a grader's jobs: each a mount that limits its size, used again if nothing of a job is left in it.

Mounting and unmounting cost more than the rest of an empty job. Without the right to mount, each job gets a plain
directory, which is removed file by file.
"""

import asyncio
import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from broadway.grader.ports import Size
from broadway.grader.sandbox import tree
from broadway.grader.sandbox.mounts import detach, may_mount, mount_memory
from broadway.grader.sandbox.tree import Bounds, Budget, run
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

MODE = 0o711  # users other than the grader's cannot list a job's directory
FEW = Bounds(entries=64, cpu_seconds=0.05, seconds=0.1)  # files that are removed at once, while the event loop waits
LITTLE = 1024 * 1024  # bytes of them
SLICE = Bounds(entries=20_000, cpu_seconds=2.0, seconds=10.0)  # of a removal, during which a job keeps its slot
REST = ".rest-"  # before the name of a directory whose removal is to go on


@dataclass(frozen=True, slots=True)
class _State:
    """All that a job could have changed of an empty mount, as the kernel reports it.

    A file or directory that a process still holds open, or has mounted elsewhere, takes an inode.
    """

    identity: tuple[int, int]  # another mount at the same place has another device
    owner: tuple[int, int]
    mode: int
    links: int
    attributes: tuple[tuple[str, bytes], ...]  # access control lists among them
    blocks: tuple[int, int]  # in all, and free
    inodes: tuple[int, int]
    flags: int

    @classmethod
    def of(cls, root: Path) -> "_State":
        """Read the state of a directory that is the root of a mount.

        Raises:
            OSError: It cannot be read.
        """
        found, mount = root.lstat(), os.statvfs(root)
        names = sorted(os.listxattr(root, follow_symlinks=False))
        return cls(
            identity=(found.st_dev, found.st_ino),
            owner=(found.st_uid, found.st_gid),
            mode=found.st_mode,
            links=found.st_nlink,
            attributes=tuple((name, os.getxattr(root, name, follow_symlinks=False)) for name in names),
            blocks=(mount.f_blocks, mount.f_bfree),
            inodes=(mount.f_files, mount.f_ffree),
            flags=mount.f_flag,
        )


@dataclass(slots=True)
class Directories:
    """The job directories of one process, below ``parent``, which is its own; ``size`` is the capacity of each."""

    parent: Path
    size: Size = field(default_factory=Size)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _new: dict[Path, _State] = field(default_factory=dict)  # the states of mounts before their first jobs
    _free: list[Path] = field(default_factory=list)

    @property
    def kept(self) -> list[Path]:
        """The directories that no job uses now, and that the next ones will get."""
        return list(self._free)

    def take(self) -> Path:
        """Return an empty directory that no other job uses.

        Raises:
            OSError: It cannot be created.
        """
        return self._free.pop() if self._free else self._create()

    async def give_back(self, root: Path, *, again: bool) -> None:
        """End a job's use of a directory: keep it for the next job, or remove it.

        ``again`` is false if the job had rights over the host, with which it may have changed more than can be checked.
        """
        if again and self._is_as_new(root):
            self._free.append(root)
            await reach(Point.GRADE_DIRECTORY_KEPT)
        else:
            self._new.pop(root, None)
            await _discard(root)

    def close(self) -> None:
        """Remove the directories that are kept."""
        while self._free:
            root = self._free.pop()
            try:
                detach(root)
                root.rmdir()
            except OSError as error:
                log.warning("directory not removed", directory=str(root), reason=str(error))

    def _create(self) -> Path:
        root = self.parent / str(next(self._numbers))
        root.mkdir(parents=True)
        try:
            root.chmod(MODE)
            if may_mount():
                mount_memory(root, size=self.size.size, inodes=self.size.inodes, mode=MODE)
                self._new[root] = _State.of(root)
        except OSError:
            with contextlib.suppress(OSError):
                _remove(root, Budget(FEW))
            raise
        return root

    def _is_as_new(self, root: Path) -> bool:
        """Remove the files of a job if they are few; return whether the mount is surely as before its first job."""
        new = self._new.get(root)
        try:
            if new is None or not _is_quickly_removed(root):
                return False
            budget = Budget(FEW)
            for name in os.listdir(root):  # noqa: PTH208 - names suffice
                tree.remove(root / name, budget)
            return _State.of(root) == new
        except (OSError, tree.TooManyFilesError):
            return False


def _is_quickly_removed(root: Path) -> bool:
    mount = os.statvfs(root)
    return (
        0 <= mount.f_files - mount.f_ffree <= FEW.entries
        and 0 <= (mount.f_blocks - mount.f_bfree) * mount.f_frsize <= LITTLE
    )


async def remove(root: Path, bounds: Bounds = SLICE) -> bool:
    """Remove a job's directory, or a part of one; return False if there is more. A mount disappears at once.

    A directory without a mount is removed in slices, so that one call takes a bounded time.
    """
    try:
        return await run(partial(_remove, root), bounds)
    except OSError as error:
        log.warning("directory not removed", directory=str(root), reason=str(error))
    return True


def _remove(root: Path, budget: Budget) -> bool:
    while os.path.ismount(root):
        detach(root)
    try:
        root.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        try:
            tree.remove(root, budget)
        except tree.TooManyFilesError:
            return False
    return True


async def _discard(root: Path) -> None:
    """Remove a directory; what takes longer than a slice is put aside for ``remove_rest``."""
    if not await remove(root):
        await asyncio.to_thread(root.rename, root.with_name(f"{REST}{root.name}"))


async def remove_rest(parent: Path) -> None:
    """Remove a slice of each directory below ``parent`` that was put aside when its job ended."""
    for each in await asyncio.to_thread(lambda: list(parent.glob(f"{REST}*"))):
        await remove(each)

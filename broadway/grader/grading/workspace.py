"""The directory that a job's stages share: limited in size, and removed with one call, however full it is."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from broadway.domain.assignment import Stage
from broadway.grader.grading import files
from broadway.grader.ports import NOBODY, Mount, Size
from broadway.grader.sandbox import tree
from broadway.grader.sandbox.mounts import detach, may_mount, mount_memory
from broadway.grader.sandbox.profile import TARGET
from broadway.grader.sandbox.programs import obstacle
from broadway.grader.sandbox.tree import Bounds, Budget, run
from broadway.runtime.cancellation import finish

log = structlog.get_logger(__name__)

SLICE = Bounds(entries=20_000, cpu_seconds=2.0, seconds=10.0)  # of a removal, during which a job keeps its slot
REST = ".rest-"  # before the name of a directory whose removal is to go on


@dataclass(frozen=True, slots=True)
class Workspace:
    """A job's files: ``/job``, and apart from it each directory that untrusted stages may write to."""

    root: Path
    written: dict[str, Path] = field(default_factory=dict)
    most_files: int = Size().files  # that an untrusted stage may leave

    @property
    def job(self) -> Path:
        return self.root / "job"

    def mounts(self, stage: Stage) -> list[Mount]:
        """Return the mounts of a stage.

        Raises:
            UnsafeFileError: A path that the stage should read does not exist, or is not a file or directory; or an
                earlier stage has put another file in the place of a path that untrusted stages write.
        """
        if not stage.untrusted:
            job = Mount(TARGET, self.job, read_only=False)
            return [job, *(self._nested(path) for path in self.written)]
        return [
            *(self._mount(path, read_only=True) for path in stage.read),
            *(self._mount(path, read_only=False) for path in stage.write),
        ]

    def read(self, path: str, *, limit: int) -> bytes:
        """Return the content of a trusted stage's file; see ``files.read``."""
        return files.read(self.job, path, limit=limit)

    def matching(self, pattern: str, *, most: int) -> list[str]:
        """Return the paths of a trusted stage's files; see ``files.matching``."""
        return files.matching(self.job, pattern, most=most)

    async def neutralise(self, stage: Stage) -> None:
        """Make the files of an untrusted stage harmless.

        Raises:
            UnsafeFileError: Some files cannot be made harmless, or are too many; the text names the directory.
            OSError: The clean-up failed.
        """
        await files.neutralise({path: self.written[path] for path in stage.write}, Bounds(entries=self.most_files))

    def _nested(self, path: str) -> Mount:
        """Return the mount of a written path within the job's directory, where earlier stages may have left files."""
        if found := obstacle(self.job, path):
            raise files.UnsafeFileError(f"write: {path}: {found.problem}")
        return self._mount(path, read_only=False)

    def _mount(self, path: str, *, read_only: bool) -> Mount:
        try:
            source = self.written.get(path) or files.check(self.job, path)
        except files.UnsafeFileError as error:
            raise files.UnsafeFileError(f"read: {error}") from None
        return Mount(f"{TARGET}/{path}", source, read_only=read_only)


@contextlib.asynccontextmanager
async def workspace(root: Path, stages: Sequence[Stage], size: Size, *, user: int = NOBODY) -> AsyncIterator[Workspace]:
    """Create a workspace at ``root``, which must not exist yet, and remove it when the context ends.

    Untrusted stages write as ``user``.

    Raises:
        OSError: The workspace cannot be created.
    """
    root.mkdir(parents=True)
    root.chmod(0o711)
    try:
        if may_mount():
            mount_memory(root, size=size.size, inodes=size.inodes, mode=0o711)
        yield _lay_out(root, {path for stage in stages for path in stage.write}, size, user)
    finally:
        await finish(_discard(root))


def _lay_out(root: Path, paths: set[str], size: Size, user: int) -> Workspace:
    written = {path: root / "written" / str(number) for number, path in enumerate(sorted(paths))}
    laid_out = Workspace(root, written, most_files=size.files)
    laid_out.job.mkdir()
    laid_out.job.chmod(0o777)
    for path, directory in laid_out.written.items():
        _make(laid_out.job, path)  # the mount point
        directory.mkdir(parents=True)
        directory.chmod(0o755)  # a judge may run as a different user than the grader and the students' programs
        if os.geteuid() == 0:
            os.chown(directory, user, user)
        else:
            directory.chmod(0o777)
    return laid_out


def _make(directory: Path, path: str) -> None:
    """Create the directories of a path with mode 0755, regardless of the umask."""
    for part in path.split("/"):
        directory /= part
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


async def remove(root: Path, bounds: Bounds = SLICE) -> bool:
    """Remove a workspace, or a part of one; return False if there is more. A mount is removed with its files, at once.

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
    """Remove a workspace; what takes longer than a slice is put aside for ``remove_rest``."""
    if not await remove(root):
        await asyncio.to_thread(root.rename, root.with_name(f"{REST}{root.name}"))


async def remove_rest(parent: Path) -> None:
    """Remove a slice of each workspace below a directory that was put aside when its job ended."""
    for each in await asyncio.to_thread(lambda: list(parent.glob(f"{REST}*"))):
        await remove(each)

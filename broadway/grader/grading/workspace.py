"""The files that a job's stages share, and where each stage sees them."""

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broadway.domain.assignment import Stage
from broadway.grader.grading import files
from broadway.grader.grading.directories import Directories
from broadway.grader.ports import NOBODY, Mount, Size
from broadway.grader.sandbox.profile import TARGET
from broadway.grader.sandbox.programs import obstacle
from broadway.grader.sandbox.tree import Bounds
from broadway.runtime.cancellation import finish


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

    def read_any(self, path: str, *, limit: int) -> bytes:
        """Return the content of a file of any stage, as trusted stages see it; see ``files.read``."""
        for written, directory in self.written.items():
            if path.startswith(f"{written}/"):
                return files.read(directory, path.removeprefix(f"{written}/"), limit=limit)
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
async def workspace(
    directories: Directories, stages: Sequence[Stage], *, user: int = NOBODY
) -> AsyncIterator[Workspace]:
    """Lay out a workspace in a directory of its own, which is given back when the context ends.

    Untrusted stages write as ``user``.

    Raises:
        OSError: The workspace cannot be created.
    """
    root = directories.take()
    try:
        yield _lay_out(root, {path for stage in stages for path in stage.write}, directories.size, user)
    finally:
        again = not any(stage.privileged for stage in stages)
        await finish(directories.give_back(root, again=again))


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

"""The directory that a job's stages share: limited in size, and removed with one call, however full it is."""

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from broadway.domain.assignment import Stage
from broadway.grader.grading import files
from broadway.grader.ports import Mount, Size
from broadway.grader.sandbox.mounts import detach, may_mount, mount_memory
from broadway.grader.sandbox.profile import TARGET, UNTRUSTED
from broadway.grader.sandbox.programs import obstacle

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Workspace:
    """A job's files: ``/job``, and apart from it each directory that untrusted stages may write to."""

    root: Path
    written: dict[str, Path] = field(default_factory=dict)

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

    async def neutralise(self, stage: Stage) -> None:
        """Make the files of an untrusted stage harmless.

        Raises:
            UnsafeFileError: Some files cannot be made harmless; the text names the directory.
            OSError: The clean-up failed.
        """
        for path in stage.write:
            try:
                await files.neutralise(self.written[path])
            except files.UnsafeFileError as error:
                raise files.UnsafeFileError(f"{path}: {error}") from None

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
async def workspace(root: Path, stages: Sequence[Stage], size: Size) -> AsyncIterator[Workspace]:
    """Create a workspace at ``root``, which must not exist yet, and remove it when the context ends.

    Raises:
        OSError: The workspace cannot be created.
    """
    root.mkdir(parents=True)
    root.chmod(0o711)
    try:
        if may_mount():
            mount_memory(root, size=size.size, inodes=size.inodes, mode=0o711)
        yield _lay_out(root, {path for stage in stages for path in stage.write})
    finally:
        await asyncio.shield(remove(root))


def _lay_out(root: Path, written: set[str]) -> Workspace:
    laid_out = Workspace(root, {path: root / "written" / str(number) for number, path in enumerate(sorted(written))})
    laid_out.job.mkdir()
    laid_out.job.chmod(0o777)
    for path, directory in laid_out.written.items():
        _make(laid_out.job, path)  # the mount point
        directory.mkdir(parents=True)
        directory.chmod(0o755)  # a judge may run as a different user than the grader and the students' programs
        if os.geteuid() == 0:
            os.chown(directory, UNTRUSTED, UNTRUSTED)
        else:
            directory.chmod(0o777)
    return laid_out


def _make(directory: Path, path: str) -> None:
    """Create the directories of a path with mode 0755, regardless of the umask."""
    for part in path.split("/"):
        directory /= part
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


async def remove(root: Path) -> None:
    """Remove a workspace, or the rest of one. Files on a mount are removed with it, at once."""
    try:
        if not await asyncio.to_thread(_is_unmounted, root):
            # A directory without a mount: rm follows no link and has no limit of depth.
            await _run("rm", "-rf", "--one-file-system", "--", str(root))
    except OSError as error:
        log.warning("directory not removed", directory=str(root), reason=str(error))


def _is_unmounted(root: Path) -> bool:
    """Detach all mounts at a directory and remove it; return False if it has other files. Large mounts take longer."""
    while os.path.ismount(root):
        detach(root)
    try:
        root.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    return True


async def _run(program: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(shutil.which(program) or program, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, problem = await process.communicate()
    if process.returncode:
        raise OSError(process.returncode, problem[:400].decode(errors="replace").strip())

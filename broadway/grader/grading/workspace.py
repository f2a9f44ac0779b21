"""The directory that a job's stages share: of limited size, and gone with a single call, whatever is in it."""

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

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Workspace:
    """A job's files: ``/job`` itself, and on their own those of its directories that untrusted stages may write to."""

    root: Path
    written: dict[str, Path] = field(default_factory=dict)

    @property
    def job(self) -> Path:
        return self.root / "job"

    def mounts(self, stage: Stage) -> list[Mount]:
        """What a stage sees.

        Raises:
            UnsafeFileError: A path that it is to read is not there, or not what it should be.
        """
        if not stage.untrusted:
            whole = Mount(TARGET, self.job, read_only=False)
            return [whole, *(self._mount(path, read_only=False) for path in self.written)]
        return [
            *(self._mount(path, read_only=True) for path in stage.read),
            *(self._mount(path, read_only=False) for path in stage.write),
        ]

    def read(self, path: str, *, limit: int) -> bytes:
        """A file that a trusted stage has left; see ``files.read``."""
        return files.read(self.job, path, limit=limit)

    async def neutralise(self, stage: Stage) -> None:
        """Make harmless what an untrusted stage has left.

        Raises:
            UnsafeFileError: It has left what cannot be made so.
            OSError: That was not possible.
        """
        for path in stage.write:
            try:
                await files.neutralise(self.written[path])
            except files.UnsafeFileError as error:
                raise files.UnsafeFileError(f"{path}: {error}") from None

    def _mount(self, path: str, *, read_only: bool) -> Mount:
        source = self.written.get(path) or files.check(self.job, path)
        return Mount(f"{TARGET}/{path}", source, read_only=read_only)


@contextlib.asynccontextmanager
async def workspace(root: Path, stages: Sequence[Stage], size: Size) -> AsyncIterator[Workspace]:
    """A workspace at ``root``, which must not exist yet, for as long as the context lasts.

    Raises:
        OSError: It cannot be made.
    """
    root.mkdir(parents=True)
    root.chmod(0o711)
    try:
        if may_mount():
            mount_memory(root, size=size.size, inodes=size.inodes, mode=0o711)
        yield _laid_out(root, {path for stage in stages for path in stage.write})
    finally:
        await asyncio.shield(remove(root))


def _laid_out(root: Path, written: set[str]) -> Workspace:
    made = Workspace(root, {path: root / "written" / str(number) for number, path in enumerate(sorted(written))})
    made.job.mkdir()
    made.job.chmod(0o777)
    for path, directory in made.written.items():
        _make(made.job, path)  # where it will be mounted
        directory.mkdir(parents=True)
        directory.chmod(0o755)  # a judge may be another user than the grader and the students' programs
        if os.geteuid() == 0:
            os.chown(directory, UNTRUSTED, UNTRUSTED)
        else:
            directory.chmod(0o777)
    return made


def _make(directory: Path, path: str) -> None:
    """Make a path, whatever the umask is."""
    for part in path.split("/"):
        directory /= part
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


async def remove(root: Path) -> None:
    """Remove a workspace, or what is left of it. What is mounted goes with its mount, however much there is."""
    try:
        if not await asyncio.to_thread(_is_unmounted_away, root):
            # For directories without a mount: rm follows no link and has no limit of depth.
            await _run("rm", "-rf", "--one-file-system", "--", str(root))
    except OSError as error:
        log.warning("directory not removed", directory=str(root), reason=str(error))


def _is_unmounted_away(root: Path) -> bool:
    """Detach what is mounted there, which may take as long as it is large. Whether nothing else was there."""
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

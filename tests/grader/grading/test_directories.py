"""Directories of jobs: a job gets the mount of an earlier one only if it cannot be told from a new mount."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broadway.domain.assignment import Stage
from broadway.grader.grading.directories import FEW, LITTLE, Directories
from broadway.grader.grading.workspace import Workspace, workspace
from broadway.grader.ports import Size
from broadway.grader.sandbox import kernel
from broadway.grader.sandbox.kernel import Mounting
from broadway.grader.sandbox.mounts import detach, mount_memory

REMOUNT = 0x20  # of mount(2)
USER = 70_123
PLAIN = Stage.model_validate({"image": "x"})
PRIVILEGED = Stage.model_validate({"image": "x", "privileged": True})
STUDENTS = Stage.model_validate({"image": "x", "untrusted": True, "write": ["out", "deep/er"]})


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Directories]:
    with contextlib.closing(Directories(tmp_path / "jobs", Size(size=8 * LITTLE, inodes=1000))) as directories:
        yield directories
    assert list((tmp_path / "jobs").iterdir()) == []


async def use(directories: Directories, act: Callable[[Workspace], object], *stages: Stage, user: int = USER) -> Path:
    """Let a job act in its directory, and return the directory."""
    async with workspace(directories, stages or [PLAIN, STUDENTS], user=user) as space:
        act(space)
    return space.root


def see(space: Workspace) -> dict[str, tuple[int, int, int]]:
    """Return what a job sees of its directory at its beginning."""
    paths = [space.root, *sorted(space.root.rglob("*"))]
    return {
        str(path.relative_to(space.root)): (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid)
        for path in paths
    }


def fill(space: Workspace) -> None:
    """Leave the kinds of files that jobs usually leave, and some unusual ones."""
    (space.job / "main.py").write_text("x" * 10_000)
    (space.job / "a" / "b" / "c").mkdir(parents=True)
    (space.job / "a" / "link").symlink_to("/etc")
    out = space.written["out"]
    (out / "core").write_bytes(bytes(100_000))
    os.chown(out / "core", USER, USER)
    os.mkfifo(out / "fifo")
    os.link(out / "core", out / "core2")
    directory = os.open(out, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{directory}/socket")  # the name of a socket may not be long
    os.close(directory)
    (space.job / "closed").mkdir(mode=0)
    os.setxattr(space.job, "trusted.left", b"1")
    space.job.chmod(0o000)


def ignore(_: Workspace) -> None:
    """Leave the directory as it is."""


async def test_a_job_cannot_tell_a_used_directory_from_a_new_one(directories: Directories) -> None:
    seen = []
    first = await use(directories, lambda space: seen.append(see(space)))
    await use(directories, lambda space: (space.job / "later").touch())
    again = await use(directories, lambda space: seen.append(see(space)))

    assert first == again
    assert seen[0] == seen[1]


async def test_the_users_of_the_next_job_own_its_directories(directories: Directories) -> None:
    owners = []
    for user in (USER, USER + 1):
        await use(directories, lambda space: owners.append(space.written["out"].stat().st_uid), user=user)
    assert owners == [USER, USER + 1]


async def test_jobs_at_the_same_time_have_different_directories(directories: Directories) -> None:
    async with workspace(directories, [PLAIN]) as one, workspace(directories, [PLAIN]) as another:
        assert one.root != another.root


def large(space: Workspace) -> None:
    (space.job / "large").write_bytes(bytes(LITTLE + 1))


def many(space: Workspace) -> None:
    for number in range(FEW.entries):
        (space.job / str(number)).touch()


def mounted(space: Workspace) -> None:
    (space.job / "mount").mkdir()
    mount_memory(space.job / "mount", size=4096, inodes=10, mode=0o755)


def covered(space: Workspace) -> None:
    mount_memory(space.root, size=4096, inodes=10, mode=0o711)


def with_devices(space: Workspace) -> None:
    kernel.mount("", str(space.root), "", Mounting.NOSUID | REMOUNT)


def labeled(space: Workspace) -> None:
    os.setxattr(space.root, "trusted.left", b"1")


def reopened(space: Workspace) -> None:
    space.root.chmod(0o777)


def given_away(space: Workspace) -> None:
    os.chown(space.root, USER, USER)


CHANGES = [large, many, mounted, covered, with_devices, labeled, reopened, given_away]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_directory_is_not_used_again_after(
    directories: Directories, change: Callable[[Workspace], None]
) -> None:
    first = await use(directories, change)
    assert not first.exists()
    assert await use(directories, ignore) != first


async def test_a_directory_is_not_used_again_after_a_privileged_stage(directories: Directories) -> None:
    first = await use(directories, ignore, PLAIN, PRIVILEGED)
    assert await use(directories, ignore) != first


async def test_a_directory_is_not_used_again_while_a_process_has_a_file_of_it_open(directories: Directories) -> None:
    with contextlib.ExitStack() as stack:
        first = await use(directories, lambda space: stack.enter_context((space.job / "file").open("w")))
        assert not first.exists()


async def test_a_directory_is_not_used_again_while_a_part_of_it_is_mounted_elsewhere(
    directories: Directories, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    first = await use(directories, lambda space: kernel.mount(str(space.job), str(elsewhere), "", Mounting.BIND))

    assert not first.exists()
    detach(elsewhere)


async def test_a_directory_with_unusual_files_is_used_again(directories: Directories) -> None:
    seen = []
    first = await use(directories, lambda space: seen.append(see(space)))
    await use(directories, fill)
    again = await use(directories, lambda space: seen.append(see(space)))

    assert first == again
    assert seen[0] == seen[1]

"""Walks over hostile trees: one pass, bounded, stoppable, through no link, with few descriptors and no processes."""

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from broadway.grader.sandbox import tree
from broadway.grader.sandbox.tree import Bounds, Budget, StoppedError, TooManyFilesError


def dig(directory: Path, depth: int) -> None:
    """Make directories in directories, deeper than the longest path, each with a link and a set-user-id file."""
    here = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.symlink("/etc/passwd", "link", dir_fd=here)
        os.close(os.open("set-id", os.O_CREAT, 0o4755, dir_fd=here))
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def open_now() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_walk_needs_one_descriptor_however_deep_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dig(tmp_path / _made(tmp_path, "deep"), 300)
    most, move = 0, tree.move

    def counted(here: int, name: str) -> None:
        nonlocal most
        move(here, name)
        most = max(most, open_now())

    before = open_now()
    monkeypatch.setattr(tree, "move", counted)
    tree.neutralise(tmp_path / "deep", Budget())
    tree.remove(tmp_path / "deep", Budget())

    assert before < most <= before + 2
    assert open_now() == before
    assert not (tmp_path / "deep").exists()


def _made(directory: Path, name: str) -> str:
    (directory / name).mkdir()
    return name


def test_the_directory_itself_is_made_harmless_too(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o7700)
    tree.neutralise(tmp_path / "out", Budget())

    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


@pytest.mark.parametrize("walk", [tree.neutralise, tree.remove])
def test_a_link_in_place_of_the_directory_is_not_followed(walk: Callable[[Path, Budget], None], tmp_path: Path) -> None:
    (tmp_path / "host").mkdir(mode=0o700)
    (tmp_path / "host" / "file").touch(mode=0o600)
    (tmp_path / "out").symlink_to("host")
    with pytest.raises(NotADirectoryError):
        walk(tmp_path / "out", Budget())

    assert stat.S_IMODE((tmp_path / "host" / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize("files", [99, 100, 101])
def test_the_number_of_entries_is_bounded_exactly(files: int, tmp_path: Path) -> None:
    for number in range(files):
        (tmp_path / str(number)).touch()
    if files > 100:
        with pytest.raises(TooManyFilesError, match="too many files and directories, more than 100"):
            tree.neutralise(tmp_path, Budget(Bounds(entries=100)))
    else:
        tree.neutralise(tmp_path, Budget(Bounds(entries=100)))


@pytest.mark.parametrize("bounds", [Bounds(cpu_seconds=0), Bounds(seconds=0)])
def test_the_time_of_a_walk_is_bounded(bounds: Bounds, tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).touch()
    with pytest.raises(TooManyFilesError, match="to check in time"):
        tree.neutralise(tmp_path, Budget(bounds))


def test_a_removal_goes_on_where_the_slice_before_has_ended(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(30):
        (root / "a" / str(number)).mkdir(parents=True)
        for other in range(10):
            (root / "a" / str(number) / str(other)).touch()
    slices, left = 0, 1
    while left:
        with contextlib.suppress(TooManyFilesError):
            tree.remove(root, Budget(Bounds(entries=100)))
        before, left = left, sum(1 for _ in root.rglob("*")) if root.exists() else 0
        slices += 1
        assert slices == 1 or left < before

    assert slices == 4


def test_more_names_than_one_chunk_are_removed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for number in range(3 * tree.CHUNK):
        (tmp_path / "root" / str(number)).touch()
    tree.remove(tmp_path / "root", Budget())

    assert not (tmp_path / "root").exists()


async def test_a_cancelled_walk_stops_before_the_cancellation_is_raised(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).touch()
    begun, ended = threading.Event(), threading.Event()

    def endless(budget: Budget) -> None:
        try:
            while True:
                tree.neutralise(tmp_path, budget)
                begun.set()
        finally:
            ended.set()

    walking = asyncio.create_task(tree.run(endless, Bounds(entries=2**62)))
    await asyncio.to_thread(begun.wait)
    walking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walking

    assert ended.is_set()


def test_a_stopped_walk_ends_between_two_entries(tmp_path: Path) -> None:
    for number in range(2 * tree.CHECK_EVERY):
        (tmp_path / str(number)).touch()
    budget = Budget()
    budget.stop.set()
    with pytest.raises(StoppedError):
        tree.remove(tmp_path, budget)

    assert len(list(tmp_path.iterdir())) > tree.CHECK_EVERY - 1


async def test_a_walk_starts_no_process_and_leaves_the_event_loop_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dig(tmp_path, 50)
    monkeypatch.setattr(os, "posix_spawn", None)
    monkeypatch.setattr("subprocess.Popen", None)
    threads: list[threading.Thread] = []

    def walk(budget: Budget) -> None:
        threads.append(threading.current_thread())
        tree.neutralise(tmp_path, budget)

    await tree.run(walk, Bounds())

    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon, "it ends with the grader's process"

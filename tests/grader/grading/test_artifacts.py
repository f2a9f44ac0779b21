"""Collecting artifacts: the files that match, within the bounds, whatever the stages have left."""

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_containers import FakeContainers

from broadway.domain.artifacts import MAX_COUNT, MAX_LEFT_OUT, MAX_SIZE
from broadway.domain.assignment import Stage
from broadway.domain.job import Outcome
from broadway.grader.grading import artifacts
from broadway.grader.grading.artifacts import Collection
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import grade
from broadway.grader.grading.workspace import Workspace, workspace
from broadway.grader.ports import Labels, Size
from broadway.grader.sandbox.tree import Bounds

LABELS = Labels("g", "life", "job", "execution", 0)


def keeping(*patterns: str, **more: Any) -> Stage:
    return Stage.model_validate({"image": "x", "artifacts": list(patterns), **more})


@pytest.fixture
async def space(tmp_path: Path) -> AsyncIterator[Workspace]:
    stages = [Stage.model_validate({"image": "x", "untrusted": True, "write": ["out"]})]
    with contextlib.closing(Directories(tmp_path / "jobs", Size())) as directories:
        async with workspace(directories, stages) as space:
            (space.job / "kept").mkdir()
            yield space


async def test_matching_files_are_read_with_their_stage(space: Workspace) -> None:
    (space.job / "kept" / "plot.png").write_bytes(b"1")
    (space.job / "kept" / "notes.txt").write_bytes(b"2")
    (space.job / "kept" / "deeper").mkdir()
    (space.job / "kept" / "deeper" / "a.png").write_bytes(b"3")
    (space.written["out"] / "of-student").write_bytes(b"4")
    collection = Collection()

    await collection.take(space, keeping("kept/*.png", "out/*"), 3)

    found = {path: (file.stage, file.content) for path, file in collection.files.items()}
    assert found == {"kept/plot.png": (3, b"1"), "out/of-student": (3, b"4")}
    assert not collection.left_out


async def test_a_file_of_a_later_stage_replaces_an_earlier_one(space: Workspace) -> None:
    collection = Collection()
    for number in range(2):
        (space.job / "kept" / "log").write_bytes(bytes([number]) * (MAX_SIZE - 10))
        await collection.take(space, keeping("kept/log"), number)

    assert [(file.stage, file.content[0]) for file in collection.files.values()] == [(1, 1)]
    assert not collection.left_out


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _hard_link(path: Path) -> None:
    (path.parent.parent / "other").write_bytes(b"x")
    os.link(path.parent.parent / "other", path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def _unreadable_name(path: Path) -> None:
    (path.parent / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (_link, "is a link"),
        (_hard_link, "has other names too (hard links)"),
        (os.mkfifo, "is not a regular file"),
        (_socket, "cannot be opened (No such device or address)"),
        (_sparse, f"is larger than {MAX_SIZE - 1} bytes"),
        (_unreadable_name, "the name has control characters, or characters that cannot be seen"),
        (lambda path: (path.parent / "a\nb").write_bytes(b"x"), "the name has control characters"),
        (lambda path: (path.parent / "a\\b").write_bytes(b"x"), "a backslash in a name"),
        (lambda path: (path.parent / "GOOD").write_bytes(b"x"), "differ only in case"),
        (lambda path: (path.parent / "u\u0308").write_bytes(b"x"), "the name is not in Unicode's form NFC"),
    ],
    ids=["link", "hard-link", "fifo", "socket", "sparse", "no-text", "newline", "backslash", "case", "not-nfc"],
)
async def test_other_files_are_left_out_with_a_reason(
    space: Workspace, leave: Callable[[Path], object], reason: str
) -> None:
    (space.job / "kept" / "good").write_bytes(b"1")
    leave(space.job / "kept" / "z")
    collection = Collection()

    await collection.take(space, keeping("kept/good"), 0)
    await collection.take(space, keeping("kept/*"), 0)

    assert list(collection.files) == ["kept/good"]
    (left,) = collection.left_out
    assert reason in left.reason
    assert left.path.isprintable()
    assert collection.note == f"artifacts: 1 left out, such as {left.path}: {left.reason}\n"


async def test_directories_behind_links_are_not_searched(space: Workspace, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"x")
    (space.job / "kept" / "way").symlink_to(tmp_path / "outside")
    collection = Collection()

    await collection.take(space, keeping("kept/*/secret", "kept/way/secret"), 0)

    assert collection.is_empty


async def test_files_beyond_the_bounds_are_counted(space: Workspace) -> None:
    for number in range(MAX_COUNT + MAX_LEFT_OUT + 7):
        (space.job / "kept" / f"{number:04}").touch()
    collection = Collection()

    await collection.take(space, keeping("kept/*"), 0)

    assert sorted(collection.files) == [f"kept/{number:04}" for number in range(MAX_COUNT)]
    assert (len(collection.left_out), collection.left_out_more) == (MAX_LEFT_OUT, 7)
    assert collection.left_out[0].reason == f"a job has at most {MAX_COUNT} artifacts"


async def test_a_search_is_bounded(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "BOUNDS", Bounds(entries=10))
    for number in range(11):
        (space.job / "kept" / str(number)).touch()
    collection = Collection()

    await collection.take(space, keeping("kept/*"), 0)

    assert not collection.files
    assert [(left.path, left.reason) for left in collection.left_out] == [
        ("kept/*", "too many files and directories, more than 10")
    ]


@pytest.mark.parametrize(
    ("last", "outcome"),
    [("exit", Outcome.FAILED), ("fault", Outcome.INFRASTRUCTURE_ERROR), ("results", Outcome.FAILED)],
)
async def test_artifacts_are_collected_from_jobs_that_fail(tmp_path: Path, last: str, outcome: Outcome) -> None:
    endings: dict[str, dict[str, Any]] = {
        "exit": {"entrypoint": ["exit", "1"]},
        "fault": {"entrypoint": ["fault", "wait"]},
        "results": {"entrypoint": ["exit", "0"], "results": "plot.png"},
    }
    stages = [
        {"image": "x", "entrypoint": ["write", "plot.png", "1"], "artifacts": ["*.png"]},
        {"image": "x", "artifacts": ["*"], **endings[last]},
    ]
    collection = Collection()

    with contextlib.closing(Directories(tmp_path / "jobs", Size())) as directories:
        graded = await grade(
            stages, containers=FakeContainers(), directories=directories, labels=LABELS, collection=collection
        )

    assert graded.outcome is outcome
    assert [(file.path, file.content) for file in collection.files.values()] == [("plot.png", b"1")]

"""Collecting the artifacts of stages: files that students may have written, found and read without following a link."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from broadway.domain.artifacts import (
    MAX_COUNT,
    MAX_LEFT_OUT,
    MAX_NAME,
    MAX_REASON,
    MAX_SIZE,
    LeftOut,
)
from broadway.domain.assignment import Stage
from broadway.domain.bounds import MAX_STAGES
from broadway.domain.files import FileLimits, FileRefusedError, FileTree, clean_path, shown
from broadway.grader.grading.files import UnsafeFileError, search
from broadway.grader.grading.workspace import Workspace
from broadway.grader.sandbox import tree
from broadway.runtime.crashpoints import Point, reach

BOUNDS = tree.Bounds(entries=20_000, cpu_seconds=2.0, seconds=10.0)  # of a stage's search


@dataclass(frozen=True, slots=True)
class CollectedFile:
    """An artifact in memory: its path below ``/job``, its stage's number, and its content."""

    path: str
    stage: int
    content: bytes = field(repr=False)
    sha256: str

    @property
    def size(self) -> int:
        return len(self.content)


@dataclass(slots=True)
class Collection:
    """The artifacts of one execution of a job: at most ``MAX_COUNT`` files of ``MAX_SIZE`` bytes together.

    A file of a later stage replaces one of the same path. A file that cannot be kept is left out, and no reason for a
    stage to fail: a student's job must not fail for it.
    """

    files: dict[str, CollectedFile] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_more: int = 0
    _tree: FileTree = field(default_factory=lambda: FileTree(FileLimits(files=BOUNDS.entries * MAX_STAGES)))

    @property
    def is_empty(self) -> bool:
        """True if no file has matched."""
        return not (self.files or self.left_out)

    async def take(self, space: Workspace, stage: Stage, number: int) -> None:
        """Collect the artifacts of a stage, whose container has ended."""
        if not stage.artifacts:
            return
        try:
            await tree.run(partial(self._take, space, stage.artifacts, number), BOUNDS)
        except tree.TooManyFilesError as error:
            self._leave_out(", ".join(stage.artifacts), str(error))
        except OSError as error:
            self._leave_out(", ".join(stage.artifacts), f"cannot be read ({os.strerror(error.errno or 0)})")
        await reach(Point.GRADE_ARTIFACTS_COLLECTED)

    def _take(self, space: Workspace, patterns: Sequence[str], number: int, budget: tree.Budget) -> None:
        for path in _found(space, patterns, budget):
            try:
                self._add(space, path, number)
            except FileRefusedError as error:
                self._leave_out(shown(path), str(error).removeprefix(f"{shown(path)}: "))
            except UnsafeFileError as error:
                self._leave_out(shown(path), str(error).removeprefix(f"{path}: "))

    def _add(self, space: Workspace, path: str, number: int) -> None:
        """Read a file.

        Raises:
            FileRefusedError: Its name is not safe everywhere.
            UnsafeFileError: It is not a regular file with one name, or there is no room for it.
        """
        if clean_path(path) != path:
            raise UnsafeFileError("the name is not in Unicode's form NFC")
        earlier = self.files.get(path)
        if earlier is None:
            if len(self.files) >= MAX_COUNT:
                raise UnsafeFileError(f"a job has at most {MAX_COUNT} artifacts")
            self._tree.add(path)
        room = MAX_SIZE - sum(each.size for each in self.files.values()) + (earlier.size if earlier else 0)
        content = space.read_any(path, limit=max(0, room))
        self.files[path] = CollectedFile(path, number, content, hashlib.sha256(content).hexdigest())

    def _leave_out(self, path: str, reason: str) -> None:
        if len(self.left_out) < MAX_LEFT_OUT:
            self.left_out.append(LeftOut(path[:MAX_NAME], reason[:MAX_REASON]))
        else:
            self.left_out_more += 1

    @property
    def note(self) -> str:
        """A line for the job's messages about files that are left out, or an empty text."""
        if not self.left_out:
            return ""
        first, count = self.left_out[0], len(self.left_out) + self.left_out_more
        return f"artifacts: {count} left out, such as {first.path}: {first.reason}\n"


def _found(space: Workspace, patterns: Sequence[str], budget: tree.Budget) -> Iterator[str]:
    """Yield the paths that match, in order; directories that untrusted stages write to are apart from the others.

    Raises:
        TooManyFilesError: A limit is reached.
        OSError: A directory cannot be read.
    """
    roots = {(): space.job, **{tuple(path.split("/")): root for path, root in space.written.items()}}
    found = {path for names, root in roots.items() for path in search(root, names, patterns, budget)}
    yield from sorted(found)

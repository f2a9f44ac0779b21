"""The files of a stage that runs an autograder of another system: the submission, facts about it, and the results."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broadway.domain.assignment import Stage
from broadway.domain.stage_kind import HARNESSES, facts
from broadway.domain.submission import DIRECTORY
from broadway.grader.grading import files
from broadway.grader.grading.workspace import Workspace
from broadway.grader.ports import Mount

_KINDS = "kinds"  # the directory below a workspace's, beside the one that stages see as /job
_FOR_ROOT = 0o700  # programs of other users in the container cannot write results


@dataclass(frozen=True, slots=True)
class HarnessSpace(Workspace):
    """The files of one stage with a kind, which does not see ``/job``; its results are read from there.

    ``origin`` is the directory that other stages see as ``/job``.
    """

    origin: Path = Path()

    def mounts(self, stage: Stage) -> list[Mount]:
        """Return the mounts of the stage.

        Raises:
            UnsafeFileError: An earlier stage has put something else in the place of the submission's directory.
        """
        harness = HARNESSES[stage.kind or ""]
        sources = {
            harness.submission: _submission(self.origin),
            harness.facts: self.job / harness.facts,
            harness.results_directory: self.job / harness.results_directory,
        }
        return [Mount(f"{harness.directory}/{path}", source, read_only=False) for path, source in sources.items()]


def space_of(stage: Stage, space: Workspace, index: int) -> Workspace:
    """Return the files that a stage of a job sees, by its number: the job's, or those of its kind."""
    if stage.kind is None:
        return space
    return HarnessSpace(space.root / _KINDS / str(index), most_files=space.most_files, origin=space.job)


def lay_out(stages: Sequence[Stage], space: Workspace) -> None:
    """Make the files of a job's stages with a kind, before the first stage can have filled the workspace; blocks.

    Raises:
        OSError: They cannot be made.
    """
    for index, stage in enumerate(stages):
        if stage.kind is None:
            continue
        harness, job = HARNESSES[stage.kind], space_of(stage, space, index).job
        results, about = job / harness.results_directory, job / harness.facts
        results.mkdir(parents=True)
        results.chmod(_FOR_ROOT)
        about.parent.mkdir(parents=True, exist_ok=True)
        about.write_text(json.dumps(facts(stage.kind, stage.env), indent=2), encoding="utf-8")
        about.chmod(0o644)


def _submission(job: Path) -> Path:
    """Return the directory with the submission's files; a job without a submission gets an empty one.

    Raises:
        UnsafeFileError: It is no directory, or it cannot be made.
    """
    try:
        with contextlib.suppress(FileExistsError):
            (job / DIRECTORY).mkdir()
    except OSError as error:
        raise files.UnsafeFileError(f"{DIRECTORY}: cannot be made ({error.strerror})") from None
    found = files.check(job, DIRECTORY)
    if not found.is_dir():
        raise files.UnsafeFileError(f"{DIRECTORY}: is not a directory")
    return found

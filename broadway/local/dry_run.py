"""A dry run: grade the files of a directory as a grader does, without a broker and an API."""

import hashlib
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

from broadway.domain.assignment import memory_bytes
from broadway.domain.assignment_settings import FileRules
from broadway.domain.files import FileRefusedError, FileTree, SubmittedFile, shown
from broadway.domain.job import Phase
from broadway.domain.run import PlannedJob, Run, RunState, plan_jobs
from broadway.domain.submission import VARIABLE
from broadway.grader.grading.artifacts import Collection
from broadway.grader.grading.grade import Graded
from broadway.grader.runtimes import connect, resolved
from broadway.grader.serve import runner_in
from broadway.grader.worker.file_cache import PIECE, FileCache
from broadway.grader.worker.submission_files import Claim, SubmissionFiles
from broadway.grader.worker.work_directory import WorkDirectory
from broadway.settings.grader import GraderSettings

NAME = "dry-run"  # the grader's id, the course and the deployment


@dataclass(slots=True)
class LocalFiles:
    """The files of a submission on this host, and the artifacts of its job; a ``FileSource``."""

    manifest: Sequence[SubmittedFile]
    places: Mapping[str, Path]  # by digest
    collection: Collection = field(default_factory=Collection)

    async def files(self, _: Claim) -> Sequence[SubmittedFile]:
        return self.manifest

    async def content(self, _: Claim, sha256: str) -> AsyncGenerator[bytes]:
        with self.places[sha256].open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    async def store(self, _: Claim, collection: Collection) -> None:
        self.collection = collection


@dataclass(frozen=True, slots=True)
class DryRun:
    """The result of a dry run."""

    graded: Graded
    artifacts: Collection


def handed_in(files: Sequence[tuple[str, Path]], rules: FileRules) -> LocalFiles:
    """Return the files of a submission, given their names in it, by the rules of an upload; blocks.

    Raises:
        FileRefusedError: The assignment does not take these files.
        OSError: A file cannot be read.
    """
    tree, manifest, places = FileTree(rules.limits), list[SubmittedFile](), dict[str, Path]()
    for name, place in files:
        size = place.stat().st_size
        rules.limits.demand_room(f"the file {shown(name)} has {size} bytes", size)
        with place.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        manifest.append(SubmittedFile(tree.add(name), digest, size))
        places[digest] = place
    total = sum(file.size for file in manifest)
    rules.limits.demand_room(f"the files have {total} bytes", total)
    if total > rules.max_bytes:
        raise FileRefusedError(f"the files have {total} bytes; {rules.max_bytes} may be sent")
    rules.check([file.path for file in manifest])
    return LocalFiles(manifest, places)


def planned(pipelines: Mapping[str, Any], *, assignment: str, env: Mapping[str, Any]) -> PlannedJob:
    """Return the job that a submission would start, whose student has the variables ``env``."""
    now = datetime.now(UTC)
    run = Run(
        id=token_hex(12),
        course=NAME,
        assignment=assignment,
        state=RunState.STUDENTS,
        started_at=now,
        config=pipelines,
        students_env=[{"BROADWAY_SUBMITTED_AT": now.isoformat(), **env, VARIABLE: token_hex(12)}],
    )
    (job,) = plan_jobs(run, Phase.STUDENTS, now)
    return job


async def dry_run(plan: PlannedJob, files: LocalFiles, settings: GraderSettings) -> DryRun:
    """Run the stages of a job with the runtime that a grader's settings choose.

    Raises:
        ContainerError: The runtime cannot be used.
    """
    work = WorkDirectory(settings.work_dir.absolute(), NAME, settings.grader_id)
    settings = await resolved(settings)
    async with connect(settings) as containers:
        with runner_in(settings, containers, work) as (runner, _):
            cache = FileCache(work.files, int(memory_bytes(settings.file_cache)))
            source, claim = SubmissionFiles(files, cache), Claim(plan.job.id)
            preparation = source.preparation(claim, plan.stages)
            graded = await runner.run(plan.job.id, token_hex(12), plan.stages, preparation, source.sending(claim))
    return DryRun(graded, files.collection)


@contextmanager
def work_directory(given: Path | None) -> Iterator[Path]:
    """Yield the directory for jobs: the given one, or a temporary one."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="broadway-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)

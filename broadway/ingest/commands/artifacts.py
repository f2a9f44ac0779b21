"""Keeping artifacts: store their contents, then the manifest that binds them to an execution of a job."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from broadway.domain.artifacts import Artifact, LeftOut, Manifest
from broadway.domain.deletion import ERASED
from broadway.domain.files import FileLimits, FileTree
from broadway.domain.job import Job
from broadway.ingest.commands.upload import STORED_AT_ONCE, ContentStore, GivenFile
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach

MAX_OF_JOB = 50  # executions of a job with artifacts; more are of a grader that makes them up


class ManifestStore(Protocol):
    """Stores manifests of artifacts."""

    async def add(self, manifest: Manifest) -> bool:
        """Store a manifest; return False if its execution has one."""

    async def executions(self, job: str, *, limit: int) -> list[str]:
        """Return the executions of a job that have manifests, ``limit`` at most."""


class ArtifactsRefusedError(ValueError):
    """The artifacts are not those of one execution; the text says why."""


@dataclass(frozen=True, slots=True)
class GivenArtifact:
    """An artifact as a grader sent it."""

    path: str
    stage: int
    content: GivenFile


@dataclass(frozen=True, slots=True)
class GivenArtifacts:
    """The artifacts of an execution as its grader sent them, and the files that it left out."""

    execution: str
    grader: str
    files: Sequence[GivenArtifact]
    left_out: Sequence[LeftOut] = ()
    left_out_more: int = 0


@dataclass(frozen=True, slots=True)
class ArtifactUploads:
    """Keeps artifacts for ``kept_for``."""

    contents: ContentStore
    manifests: ManifestStore
    kept_for: timedelta
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STORED_AT_ONCE))

    async def keep(self, job: Job, given: GivenArtifacts) -> bool:
        """Store the artifacts of an execution of a job; return False if they were stored before.

        The contents are stored first: a manifest never refers to a content that is missing.

        Raises:
            FileRefusedError: A path is not safe everywhere, or stands twice.
            ArtifactsRefusedError: Too many executions of the job have artifacts, or its student's data were deleted.
        """
        if job.reason == ERASED:
            raise ArtifactsRefusedError(ERASED)
        tree = FileTree(FileLimits())
        files = [
            Artifact(tree.add(each.path), each.stage, each.content.sha256, each.content.size) for each in given.files
        ]
        known = await self.manifests.executions(job.id, limit=MAX_OF_JOB)
        if given.execution not in known and len(known) >= MAX_OF_JOB:
            raise ArtifactsRefusedError(f"the job has artifacts of {MAX_OF_JOB} executions already")
        async with self._turns:
            await self.contents.put([each.content for each in given.files])
        await reach(Point.ARTIFACTS_CONTENTS_STORED)
        at = now()
        manifest = Manifest(
            job=job.id,
            generation=job.generation,
            execution=given.execution,
            grader=given.grader,
            at=at,
            expires_at=at + self.kept_for,
            files=tuple(files),
            left_out=tuple(given.left_out),
            left_out_more=given.left_out_more,
        )
        is_new = await self.manifests.add(manifest)
        await reach(Point.ARTIFACTS_STORED)
        return is_new

"""Artifacts: the files that a job's stages leave for staff."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from broadway.domain.artifacts import MAX_COUNT, MAX_LEFT_OUT, MAX_NAME, MAX_REASON
from broadway.domain.bounds import MAX_STAGES
from broadway.domain.files import MAX_PATH
from broadway.messages.resources.base import View

MAX_MORE = 1_000_000  # files that are left out without being named

StageNumber = Annotated[int, Field(ge=0, lt=MAX_STAGES, description="number of the stage, from 0")]


class LeftOutView(View):
    """A file that is not kept."""

    path: str = Field(max_length=MAX_NAME)
    reason: str = Field(max_length=MAX_REASON)


class ArtifactView(View):
    """A file that a stage left."""

    path: str = Field(max_length=MAX_PATH, description="path below /job")
    stage: StageNumber
    size: int = Field(description="bytes", ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ArtifactsView(View):
    """The artifacts of one attempt of a job."""

    job: str
    attempt: str | None = Field(description="id of the attempt; null before the first one")
    files: list[ArtifactView]
    left_out: list[LeftOutView] = Field(description="files that matched and are not kept, each with the reason")
    left_out_more: int = Field(description="number of files that are left out besides these")
    expires_at: datetime | None = Field(description="time of their removal; null if the list is empty")


class SentArtifact(View):
    """The place of an artifact that a grader sends; its content is the part of the form of the same number."""

    path: str = Field(max_length=MAX_PATH)
    stage: StageNumber


class SentArtifacts(View):
    """The first part of the form with which a grader sends the artifacts of an execution."""

    files: list[SentArtifact] = Field(max_length=MAX_COUNT)
    left_out: list[LeftOutView] = Field(default=[], max_length=MAX_LEFT_OUT)
    left_out_more: int = Field(default=0, ge=0, le=MAX_MORE)


class StoredArtifacts(View):
    """The answer to a grader whose artifacts are stored."""

    job: str
    attempt: str
    count: int

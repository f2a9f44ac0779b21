"""The query for one of a job's attempts."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

AttemptId = Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]


class AttemptQuery(BaseModel):
    """The query for an attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempt: AttemptId | None = Field(
        default=None,
        description="the id of an attempt, as in the job's `executions`; without it, the attempt that ended the job",
    )

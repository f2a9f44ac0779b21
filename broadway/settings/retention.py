"""The settings of retention: the rules of courses that have none of their own."""

from pydantic import BaseModel, ConfigDict, Field

from broadway.domain.retention import Days, Policy


class RetentionSettings(BaseModel):
    """Days after which things are removed, unless a course has its own rule; without a value all are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    works: Days | None = Field(
        default=None, description="days after which submissions and runs that no grade needs are removed"
    )
    logs: Days | None = Field(default=None, description="days after which the logs of jobs are removed")
    regrades: Days | None = Field(
        default=None, description="days after which the runs of discarded regrades are removed"
    )
    deliveries: Days | None = Field(
        default=None, description="days after which decided deliveries of webhooks are removed"
    )
    tokens: Days | None = Field(default=None, description="days after which expired and revoked tokens are removed")
    dead_letters: Days | None = Field(default=None, description="days after which dead letters are removed")
    graders: Days | None = Field(default=None, description="days after which graders that are gone are removed")
    hours: float = Field(default=24.0, gt=0, le=24 * 366, description="hours between two passes of retention")

    @property
    def policy(self) -> Policy:
        """The deployment's rules."""
        return Policy(**self.model_dump(exclude={"hours"}))

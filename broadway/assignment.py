"""Assignments: the pipelines that a course registers, and the environment their stages run in."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, field_validator

Env = dict[str, Any]

# Without zero, which engines take for no limit.
Memory = Annotated[str, Field(pattern=r"^[0-9]*[1-9][0-9]*(\.[0-9]+)?[kKmMgGtT]?[bB]?$")]


_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def memory_bytes(text: str) -> float:
    """What a stage's ``memory`` stands for, in bytes."""
    text = text.lower()
    if text.endswith("b") and text[-2:-1] in _UNITS:
        text = text[:-1]
    return float(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else float(text)


class Stage(BaseModel):
    """One container of a pipeline: the original's keys, types and defaults (``timeout`` in seconds)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: Annotated[str, Field(min_length=1)]
    env: Env = {}
    entrypoint: Annotated[list[str], Field(strict=False)] = []
    networking: bool = True
    privileged: bool = False
    hostname: str = "container"
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    cpuset_cpus: str = ""
    memory: Memory = "2g"
    logs: bool = True

    @field_validator("timeout", mode="wrap")
    @classmethod
    def _number_as_posted(cls, value: object, check: ValidatorFunctionWrapHandler) -> object:
        if isinstance(value, bool):
            raise ValueError("Input should be a valid number")  # noqa: TRY004 - pydantic wants a ValueError
        check(value)
        return value


Pipeline = list[Stage]


class AssignmentConfig(BaseModel):
    """What ``POST /grading_config`` takes: three pipelines and the environment they share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    student_pipeline: Annotated[Pipeline, Field(min_length=1)]
    pre_processing_pipeline: Pipeline | None = None
    post_processing_pipeline: Pipeline | None = None
    env: Env | None = None

    def as_posted(self) -> dict[str, Any]:
        """The four keys, absent ones as None, and stages exactly as they were posted."""
        posted = self.model_dump(exclude_unset=True)
        return {key: posted.get(key) for key in type(self).model_fields}


def stage_env(
    *,
    shared: Mapping[str, Any] | None,
    stage: Mapping[str, Any],
    job: Mapping[str, Any],
    run_id: str,
    job_id: str,
) -> Env:
    """The environment of one stage of one job; later wins.

    The assignment's ``env``, ``GRADING_RUN_ID``, the stage's own, the run's entry for this job, ``GRADING_JOB_ID``.
    """
    return {**(shared or {}), "GRADING_RUN_ID": run_id, **stage, **job, "GRADING_JOB_ID": job_id}


def prepare_stages(
    pipeline: list[dict[str, Any]],
    *,
    shared: Mapping[str, Any] | None,
    job_env: Mapping[str, Any],
    run_id: str,
    job_id: str,
) -> list[dict[str, Any]]:
    """One job's own copy of a pipeline, with the merged environment in every stage."""
    return [
        {
            **stage,
            "env": stage_env(shared=shared, stage=stage.get("env") or {}, job=job_env, run_id=run_id, job_id=job_id),
        }
        for stage in pipeline
    ]


def longest_run(stages: list[dict[str, Any]]) -> float:
    """Seconds that the stages may run in all, by their own time limits."""
    return sum(float(stage.get("timeout", Stage.model_fields["timeout"].default)) for stage in stages)

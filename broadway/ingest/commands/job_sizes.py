"""Sizes of a new run's jobs: the variables of each stage together, and the message with all stages of a job."""

import json
from collections.abc import Mapping
from typing import Any

from broadway.domain.assignment import stage_env
from broadway.domain.job import Phase
from broadway.domain.run import PIPELINE_OF, Run
from broadway.domain.variables import MAX_ENVIRONMENT, env_problem
from broadway.ingest.commands.limits import InvalidEnvError, RejectedError

MAX_JOB = 12 * 1024 * 1024  # bytes of a job's stages as JSON; the broker takes messages of 16 MiB
_IDS = 500  # characters of the variables that Broadway adds to a stage


def check_jobs(run: Run) -> None:
    """Return if programs can have the variables of each job, and graders can get it.

    Raises:
        InvalidEnvError: A stage's variables are too large together; the text names the job, the stage and a variable.
        RejectedError: A job's stages are too large for a message; the text names the job.
    """
    for phase in Phase:
        pipeline = [stage for stage in run.pipeline(phase) if stage]
        shared = _size(run.config.get("env") or {})
        stages = [shared + _size(stage) + _IDS for stage in pipeline]
        for index, env in enumerate(run.envs(phase)):
            own = _size(env)
            if stages and max(stages) + own > MAX_ENVIRONMENT:
                _check_variables(run, phase, _place(phase, index), env)
            if sum(stages) + own * len(stages) > MAX_JOB:
                raise RejectedError(
                    f"{_place(phase, index)}: the stages of {PIPELINE_OF[phase]} have "
                    f"{sum(stages) + own * len(stages)} bytes with their variables, {MAX_JOB} are allowed for a job"
                )


def _check_variables(run: Run, phase: Phase, place: str, env: Mapping[str, Any]) -> None:
    for index, stage in enumerate(run.pipeline(phase)):
        shared, own = run.config.get("env"), stage.get("env") or {}
        only = stage.get("inherit", []) if stage.get("untrusted") else None
        merged = stage_env(shared=shared, stage=own, job=env, run_id=run.id, job_id=run.id, only=only)
        if problem := env_problem(merged):
            raise InvalidEnvError(
                f"{place}, with those of {PIPELINE_OF[phase]}.{index} and of the assignment: {problem}"
            )


def _size(value: object) -> int:
    """Return the bytes of a value as JSON, which are not fewer than those of its text."""
    return len(json.dumps(value))


def _place(phase: Phase, index: int) -> str:
    """Return the key of a submission that has a job's variables."""
    if phase is Phase.STUDENTS:
        return f"students_env.{index}"
    return "pre_processing_env" if phase is Phase.PRE_PROCESSING else "post_processing_env"

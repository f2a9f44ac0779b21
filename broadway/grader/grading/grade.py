"""Running one job: its stages one after another, and the outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Histogram
from pydantic import ValidationError

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase, Outcome
from broadway.domain.result import Scores, StageResult
from broadway.grader.grading.files import UnsafeFileError
from broadway.grader.grading.scores import MAX_SIZE, InvalidScoresError, parse, refused
from broadway.grader.grading.verdict import Verdict, judge, judge_all, stage_result
from broadway.grader.grading.workspace import Workspace, workspace
from broadway.grader.ports import ContainerError, Containers, Labels, Size, StageRun, Upcoming
from broadway.runtime import metrics
from broadway.runtime.cancellation import finish
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

CRASHED = "The container crashed"
MAX_DOCUMENTS = 4 * 1024 * 1024  # characters of all results files of a job, as stored


@dataclass(frozen=True, slots=True)
class Graded:
    """The outcome of an execution, with the results and the output of its stages."""

    outcome: Outcome
    reason: str
    results: Sequence[StageResult]
    stdout: str
    stderr: str = ""
    fault_phase: FaultPhase | None = None
    retryable: bool = False


async def grade(
    stages: Sequence[Mapping[str, Any]], *, containers: Containers, directory: Path, labels: Labels, size: Size
) -> Graded:
    """Run a job's stages in order, in a workspace of their own, until one of them fails.

    Args:
        stages: The assignment's stages, with merged environments.
        containers: The container engine.
        directory: The workspace, which must not exist yet and is removed at the end; stages see its files at ``/job``.
        labels: The owner of the containers.
        size: The capacity of the workspace.
    """
    done: list[_Done] = []
    try:
        validated = [_validated(stage) for stage in stages]
        async with workspace(directory, validated, size) as space:
            await reach(Point.GRADE_DIRECTORY_MADE)
            with metrics.IMAGES_SECONDS.time():
                pulls = await containers.ensure_images(list(dict.fromkeys(stage.image for stage in validated)))
            await reach(Point.GRADE_IMAGES_READY)
            await _run_all(validated, done, space, containers, labels, pulls)
    except ContainerError as error:
        return fault(error, done)
    except OSError as error:
        reason = f"the job's directory could not be prepared: {error.strerror}"
        return fault(ContainerError(reason, phase=FaultPhase.CREATE, retryable=True), done)
    verdict = judge_all([each.verdict for each in done], stages=len(stages))
    return Graded(
        verdict.outcome, verdict.reason, [each.result for each in done], "".join(each.output for each in done)
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """A finished stage."""

    verdict: Verdict
    result: StageResult
    output: str = ""


async def _run_all(
    stages: Sequence[Stage],
    done: list[_Done],
    space: Workspace,
    containers: Containers,
    labels: Labels,
    pulls: Mapping[str, float],
) -> None:
    """Run stages in order until one fails, and append each finished stage to ``done``."""
    for index, stage in enumerate(stages):
        upcoming = _upcoming(stages[index + 1 :], space, replace(labels, stage=index + 1))
        try:
            own = replace(labels, stage=index)
            remaining = MAX_DOCUMENTS - sum(each.result.scores.size for each in done if each.result.scores)
            pull_seconds = pulls.get(stage.image, 0.0)
            done.append(await _run(stage, space, containers, own, upcoming, pull_seconds, remaining=remaining))
            await reach(Point.GRADE_STAGE_ENDED)
        finally:
            goes_on = len(done) > index and done[-1].verdict.outcome is Outcome.SUCCEEDED
            if upcoming and not goes_on:
                await finish(containers.dismiss(upcoming))
        if not goes_on:
            break


def _upcoming(rest: Sequence[Stage], space: Workspace, labels: Labels) -> Upcoming | None:
    """Return the next stage, unless its mounts depend on files that earlier stages make."""
    return Upcoming(rest[0], space.mounts(rest[0]), labels) if rest and not rest[0].untrusted else None


async def _run(
    stage: Stage,
    space: Workspace,
    containers: Containers,
    labels: Labels,
    upcoming: Upcoming | None,
    pull_seconds: float,
    *,
    remaining: int,
) -> _Done:
    try:
        mounts = space.mounts(stage)
    except UnsafeFileError as error:
        return _Done(Verdict(Outcome.FAILED, f"read: {error}"), StageResult(success=False))
    run = await containers.run(stage, mounts=mounts, labels=labels, upcoming=upcoming)
    _record(run)
    verdict, scores, refused_results = judge(run), None, None
    try:
        if stage.untrusted:
            await space.neutralise(stage)
        elif stage.results and verdict.outcome is Outcome.SUCCEEDED:
            data = space.read(stage.results, limit=MAX_SIZE)
            try:
                scores = _scores(data, remaining)
            except InvalidScoresError:
                refused_results = refused(data)
                raise
    except (UnsafeFileError, InvalidScoresError) as error:
        if verdict.outcome is Outcome.SUCCEEDED:
            verdict = Verdict(Outcome.FAILED, f"{'write' if stage.untrusted else 'results'}: {error}")
    except OSError as error:
        log.warning("the stage's files cannot be read", reason=str(error))
        reason = "the stage's files cannot be read"
        raise ContainerError(reason, phase=FaultPhase.COLLECT, retryable=True) from error
    result = replace(stage_result(run, verdict, scores, pull_seconds=pull_seconds), refused_results=refused_results)
    return _Done(verdict, result, run.output if stage.logs else "")


def _scores(data: bytes, remaining: int) -> Scores:
    scores = parse(data)
    if scores.size > remaining:
        raise InvalidScoresError(f"those of all stages together are larger than {MAX_DOCUMENTS} characters")
    return scores


def _record(run: StageRun) -> None:
    metrics.STAGE_WALL_SECONDS.observe((run.finished_at - run.started_at).total_seconds())
    if run.usage:
        _observe(metrics.STAGE_CREATE_SECONDS, run.usage.create_seconds)
        _observe(metrics.STAGE_START_SECONDS, run.usage.start_seconds)
        _observe(metrics.STAGE_CPU_SECONDS, run.usage.cpu_seconds)


def _observe(histogram: Histogram, seconds: float | None) -> None:
    if seconds is not None:
        histogram.observe(seconds)


def _validated(stage: Mapping[str, Any]) -> Stage:
    """Validate a stage and fill in its defaults.

    Raises:
        ContainerError: The stage is not valid.
    """
    try:
        return Stage.model_validate(stage)
    except ValidationError as error:
        names = ", ".join(".".join(map(str, each["loc"])) or each["msg"] for each in error.errors())
        raise ContainerError(f"not a stage: {names}", phase=FaultPhase.CREATE, retryable=False) from None


def fault(error: ContainerError, done: Sequence[_Done] = ()) -> Graded:
    """Return the result of a job that met an infrastructure error after the stages in ``done``."""
    return Graded(
        outcome=Outcome.INFRASTRUCTURE_ERROR,
        reason=f"{error.phase}: {error}",
        results=[*(each.result for each in done), StageResult(success=False)],
        stdout="".join(each.output for each in done) + CRASHED,
        stderr=str(error),
        fault_phase=error.phase,
        retryable=error.retryable,
    )

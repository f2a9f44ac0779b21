"""Running one job: its stages one after another, and the outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import structlog
from prometheus_client import Histogram
from pydantic import ValidationError

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase, Outcome
from broadway.domain.mistakes import mistakes
from broadway.domain.originals import Reported
from broadway.domain.result import Scores, StageResult
from broadway.domain.results_setting import ResultsSetting
from broadway.grader.grading.artifacts import Collection
from broadway.grader.grading.collecting import collect
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.files import TooLargeError, UnsafeFileError
from broadway.grader.grading.harness import lay_out, space_of
from broadway.grader.grading.scores import MAX_SIZE, InvalidScoresError, beginning_of, parse
from broadway.grader.grading.verdict import RESULTS, Verdict, judge, judge_all, judge_report, stage_result
from broadway.grader.grading.workspace import Workspace, workspace
from broadway.grader.ports import ContainerError, Containers, Labels, StageRun, Upcoming
from broadway.runtime import metrics
from broadway.runtime.cancellation import end, finish
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

CRASHED = "The container crashed"
TRIAL_SECONDS = 10.0  # for an image's program that seems to be missing
MAX_MISTAKES = 3  # in a reason
MAX_DOCUMENTS = 4 * 1024 * 1024  # characters of all results files of a job, as stored

T = TypeVar("T")

Preparation = Callable[[Path], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Graded:
    """The outcome of an execution, with the results and the output of its stages; ``image`` is a failed stage's."""

    outcome: Outcome
    reason: str
    results: Sequence[StageResult]
    stdout: str
    stderr: str = ""
    fault_phase: FaultPhase | None = None
    retryable: bool = False
    image: str = ""

    @property
    def may_be_of_grader(self) -> bool:
        """True for an infrastructure error whose cause may be this grader, and not only a job's image or config."""
        return self.retryable and self.fault_phase is not FaultPhase.PULL


async def grade(
    stages: Sequence[Mapping[str, Any]],
    *,
    containers: Containers,
    directories: Directories,
    labels: Labels,
    preparation: Preparation | None = None,
    collection: Collection | None = None,
) -> Graded:
    """Run a job's stages in order, in a workspace of their own, until one of them fails or ``labels.stop`` is set.

    A job that is stopped is cancelled: its result has the output so far.

    Args:
        stages: The assignment's stages, with merged environments.
        containers: The container engine.
        directories: Has the directory of the workspace; stages see the workspace's files at ``/job``.
        labels: The owner of the containers.
        preparation: Lays files out in the directory that stages see as ``/job``, before the first stage.
        collection: Takes the artifacts of each stage that ran.
    """
    done: list[_Done] = []
    validated: list[Stage] = []
    try:
        validated = [_validated(stage) for stage in stages]
        async with workspace(directories, validated, user=labels.user) as space:
            await reach(Point.GRADE_DIRECTORY_MADE)
            pulls = await _unless_stopped(labels, _prepare(validated, space, containers, preparation))
            if pulls is not None:
                await _run_all(validated, done, space, containers, labels, pulls, collection)
    except ContainerError as error:
        if not _is_stopped(labels):
            return replace(fault(error, done), image=validated[len(done)].image if len(done) < len(validated) else "")
    except OSError as error:
        if not _is_stopped(labels):
            reason = f"the job's directory could not be prepared: {error.strerror}"
            return fault(ContainerError(reason, phase=FaultPhase.CREATE, retryable=True), done)
    return _graded(done, stages=len(stages))


@dataclass(frozen=True, slots=True)
class _Done:
    """A finished stage."""

    verdict: Verdict
    result: StageResult
    output: str = ""


def _graded(done: Sequence[_Done], *, stages: int) -> Graded:
    verdict = judge_all([each.verdict for each in done], stages=stages)
    is_of_autograder = verdict.outcome is Outcome.INFRASTRUCTURE_ERROR
    return Graded(
        verdict.outcome,
        verdict.reason,
        [each.result for each in done],
        "".join(each.output for each in done),
        fault_phase=FaultPhase.COLLECT if is_of_autograder else None,
    )


def _is_stopped(labels: Labels) -> bool:
    return labels.stop is not None and labels.stop.is_set()


async def _unless_stopped(labels: Labels, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of work, or None if the job is stopped first; the work has ended then."""
    stop = labels.stop or asyncio.Event()
    working, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        await end(working, stopped)


async def _prepare(
    stages: Sequence[Stage], space: Workspace, containers: Containers, preparation: Preparation | None
) -> Mapping[str, float]:
    """Prepare a job's directory and images; return the seconds that each pull took, by image."""
    if preparation:
        await preparation(space.job)
        await reach(Point.GRADE_FILES_LAID_OUT)
    await finish(asyncio.to_thread(lay_out, stages, space))
    with metrics.IMAGES_SECONDS.time():
        pulls = await containers.ensure_images(list(dict.fromkeys(stage.image for stage in stages)))
    await reach(Point.GRADE_IMAGES_READY)
    return pulls


async def _run_all(
    stages: Sequence[Stage],
    done: list[_Done],
    space: Workspace,
    containers: Containers,
    labels: Labels,
    pulls: Mapping[str, float],
    collection: Collection | None,
) -> None:
    """Run stages in order until one fails or the job is stopped, and append each finished stage to ``done``."""
    for index, stage in enumerate(stages):
        upcoming = _upcoming(stages[index + 1 :], space, replace(labels, stage=index + 1))
        try:
            own = replace(labels, stage=index)
            remaining = MAX_DOCUMENTS - sum(each.result.size for each in done)
            pull_seconds = pulls.get(stage.image, 0.0)
            done.append(await _run(stage, space, containers, own, upcoming, pull_seconds, remaining=remaining))
            if collection:
                await collection.take(space, stage, index)
            await reach(Point.GRADE_STAGE_ENDED)
        finally:
            is_good = len(done) > index and done[-1].verdict.outcome is Outcome.SUCCEEDED
            goes_on = is_good and not _is_stopped(labels)
            if upcoming and not goes_on:
                await finish(containers.dismiss(upcoming))
        if not goes_on:
            break


def _upcoming(rest: Sequence[Stage], space: Workspace, labels: Labels) -> Upcoming | None:
    """Return the next stage, unless its mounts depend on files that earlier stages make."""
    if not rest or rest[0].untrusted or rest[0].kind:
        return None
    try:
        return Upcoming(rest[0], space.mounts(rest[0]), labels)
    except UnsafeFileError:  # the stage will fail for it
        return None


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
        space = space_of(stage, space, labels.stage)
        mounts = space.mounts(stage)
    except UnsafeFileError as error:
        return _Done(Verdict(Outcome.FAILED, str(error)), StageResult(success=False))
    run = await containers.run(stage, mounts=mounts, labels=labels, upcoming=upcoming)
    await _check_image(stage, run.suspicion, containers, labels)
    _record(run)
    try:
        read = await _read_files(run, stage, space, remaining)
    except OSError as error:
        log.warning("the stage's files cannot be read", reason=str(error))
        reason = "the stage's files cannot be read"
        raise ContainerError(reason, phase=FaultPhase.COLLECT, retryable=True) from error
    result = stage_result(run, read.verdict, read.scores, read.reported, pull_seconds=pull_seconds)
    result = replace(result, refused_results=read.refused)
    return _Done(read.verdict, result, run.output if stage.logs else "")


@dataclass(frozen=True, slots=True)
class _Read:
    """A stage's verdict and its results; ``refused`` is the beginning of a results file without a format."""

    verdict: Verdict
    scores: Scores | None = None
    reported: Reported | None = None
    refused: str | None = None


async def _read_files(run: StageRun, stage: Stage, space: Workspace, remaining: int) -> _Read:
    """Return a stage's results; make the files of an untrusted one harmless.

    Raises:
        OSError: The files cannot be read.
    """
    verdict, setting = judge(run), stage.results_setting
    if verdict.outcome is Outcome.CANCELLED:
        return _Read(verdict)
    if isinstance(setting, ResultsSetting):
        reported = await asyncio.to_thread(collect, run, setting, space, remaining)
        return _Read(judge_report(run, reported), reported=reported)
    if verdict.outcome is not Outcome.SUCCEEDED:
        return _Read(verdict)  # no stage comes after it
    try:
        if stage.untrusted:
            await space.neutralise(stage)
        elif setting:
            return _Read(verdict, await asyncio.to_thread(_read_scores, space, setting, remaining))
    except (UnsafeFileError, InvalidScoresError) as error:
        refused = Verdict(Outcome.FAILED, f"{'write' if stage.untrusted else RESULTS}: {error}")
        return _Read(refused, refused=_refused_text(error))
    return _Read(verdict)


def _refused_text(error: UnsafeFileError | InvalidScoresError) -> str | None:
    """Return the beginning of a refused results file as text, if the file was read."""
    if isinstance(error, TooLargeError):
        return beginning_of(error.beginning)
    return error.beginning if isinstance(error, InvalidScoresError) else None


async def _check_image(stage: Stage, suspicion: str, containers: Containers, labels: Labels) -> None:
    """Make sure that a stage's image has its program, if the stage's output denies it.

    The output may be a student's, so the program is started once more: alone, without arguments, files and variables.

    Raises:
        ContainerError: The container cannot execute the program this time either.
    """
    if not suspicion:
        return
    env = {name: value for name, value in stage.env.items() if name == "PATH"}
    alone = {"entrypoint": stage.entrypoint[:1], "env": env, "networking": False, "timeout": TRIAL_SECONDS}
    trial = stage.model_copy(update={**alone, "logs": False, "read": [], "write": [], "privileged": False})
    own = replace(labels, execution_id=f"{labels.execution_id}-trial", stop=None)
    tried = await containers.run(trial, mounts=[], labels=own)
    if tried.suspicion == suspicion:
        reason = f"image {stage.image}, entrypoint {stage.entrypoint}"[:400] + f": {suspicion}"
        raise ContainerError(reason, phase=FaultPhase.START, retryable=False)


def _read_scores(space: Workspace, path: str, remaining: int) -> Scores:
    """Read a results file and parse it; blocks."""
    scores = parse(space.read(path, limit=MAX_SIZE))
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
        problems = "; ".join(mistakes(error, Stage)[:MAX_MISTAKES])
        raise ContainerError(f"not a stage: {problems}", phase=FaultPhase.CREATE, retryable=False) from None


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

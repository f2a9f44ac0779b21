"""Running one job: its stages one after another, and what they come to."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from broadway.crashpoints import Point, reach
from broadway.grader.stages import ContainerError, Containers, Labels, StageRun
from broadway.grader.verdict import judge, judge_all, result_entry
from broadway.job import FaultPhase, Outcome

log = structlog.get_logger(__name__)

CRASHED = "The container crashed"


@dataclass(frozen=True, slots=True)
class Graded:
    """What an execution came to."""

    outcome: Outcome
    reason: str
    results: list[dict[str, Any]]
    stdout: str
    stderr: str = ""
    fault_phase: FaultPhase | None = None
    retryable: bool = False


async def grade(stages: Sequence[dict[str, Any]], *, containers: Containers, directory: Path, labels: Labels) -> Graded:
    """Run stages in order, sharing a directory that exists only for them; the first that fails is the last.

    Args:
        stages: As the assignment has them, with merged environments.
        containers: The engine.
        directory: Made and removed here; it is ``/job`` in every stage.
        labels: Whose containers these are.
    """
    runs: list[StageRun] = []
    output: list[str] = []
    try:
        async with job_directory(directory):
            await reach(Point.GRADE_DIRECTORY_MADE)
            await containers.ensure_images(list(dict.fromkeys(stage["image"] for stage in stages)))
            await reach(Point.GRADE_IMAGES_READY)
            async for stage, run in _run_stages(stages, containers, directory, labels):
                runs.append(run)
                output.append(run.output if stage.get("logs", True) else "")
    except ContainerError as error:
        return _fault(error, output)
    except OSError as error:
        reason = f"the job's directory could not be prepared: {error.strerror}"
        return _fault(ContainerError(reason, phase=FaultPhase.CREATE, retryable=True), output)
    verdict = judge_all(runs, stages=len(stages))
    return Graded(verdict.outcome, verdict.reason, [result_entry(run) for run in runs], "".join(output))


async def _run_stages(
    stages: Sequence[dict[str, Any]], containers: Containers, directory: Path, labels: Labels
) -> AsyncIterator[tuple[dict[str, Any], StageRun]]:
    for index, stage in enumerate(stages):
        run = await containers.run(stage, directory=directory, labels=replace(labels, stage=index))
        await reach(Point.GRADE_STAGE_ENDED)
        yield stage, run
        if judge(run).outcome is not Outcome.SUCCEEDED:
            return


def _fault(error: ContainerError, output: Sequence[str]) -> Graded:
    return Graded(
        outcome=Outcome.INFRASTRUCTURE_ERROR,
        reason=f"{error.phase}: {error}",
        results=[{"success": False}],
        stdout="".join(output) + CRASHED,
        stderr=str(error),
        fault_phase=error.phase,
        retryable=error.retryable,
    )


@contextlib.asynccontextmanager
async def job_directory(directory: Path) -> AsyncIterator[None]:
    """A directory that every user may write to, and that is gone afterwards."""
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    try:
        yield
    finally:
        await asyncio.shield(remove_tree(directory))


async def remove_tree(directory: Path) -> None:
    """Remove a directory that students have written to; rm follows no link and has no limit of depth."""
    rm = shutil.which("rm") or "/bin/rm"
    process = await asyncio.create_subprocess_exec(
        rm, "-rf", "--one-file-system", "--", str(directory), stderr=asyncio.subprocess.PIPE
    )
    _, problem = await process.communicate()
    if process.returncode:
        log.warning("directory not removed", directory=str(directory), reason=problem.decode(errors="replace"))

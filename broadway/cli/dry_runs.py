"""`broadway assignment validate --run`: grade a directory here, and show both views of its report."""

import asyncio
import logging
import re
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from broadway.cli import terminal
from broadway.cli.common import EXIT_FAILED, EXIT_USAGE, fail
from broadway.cli.submissions import UNGRADED, files_of
from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.files import FileRefusedError
from broadway.domain.visibility import Role, Standing
from broadway.grader.ports import ContainerError
from broadway.ingest.reads.reports import report_in, shown_to
from broadway.ingest.v2.views.reports import report_view
from broadway.local.dry_run import NAME, DryRun, dry_run, handed_in, planned, work_directory
from broadway.messages.resources.reports import ReportView
from broadway.service import StartError
from broadway.settings.grader import GraderSettings
from broadway.settings.loading import load

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of a dry run."""

    directory: Path
    student: str = "student"
    env: tuple[str, ...] = ()
    runtime: str | None = None
    work_dir: Path | None = None
    shows_log: bool = False
    as_json: bool = False


def show_dry_run(name: str, pipelines: dict[str, Any], settings: AssignmentSettings, wish: Wish) -> int:
    """Grade a directory with an assignment's student pipeline, print the result, and return the exit code.

    It is 0 if the pipeline has given a result, however bad, and 1 otherwise.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    left_out = [key for key in ("pre_processing_pipeline", "post_processing_pipeline") if pipelines.get(key)]
    if left_out:
        terminal.message(f"only the student_pipeline runs here, not {' and '.join(left_out)}")
    env = {"BROADWAY_STUDENT": wish.student, **_variables(wish.env)}
    try:
        files = handed_in(files_of([wish.directory]), settings.files)
        plan = planned(pipelines, assignment=name, env=env)
        with work_directory(wish.work_dir) as directory:
            grader = _grader_settings(wish.runtime, directory)
            stages = "1 stage" if len(plan.stages) == 1 else f"{len(plan.stages)} stages"
            terminal.message(f"{stages} with runtime {grader.reported_runtime} for {len(files.manifest)} files")
            done = _until_signaled(dry_run(plan, files, grader))
    except FileRefusedError as error:
        raise fail(f"{wish.directory}: a submission of these files is refused: {error}") from error
    except ContainerError as error:
        raise fail(f"no stage can run here: {error}; start an engine, or name a runtime with --runtime") from error
    except (OSError, StartError) as error:
        raise fail(f"{wish.directory}: {error}") from error
    views = _views(done, plan.job.id, settings)
    _show_json(done, views) if wish.as_json else _show(done, views, shows_log=wish.shows_log)
    return EXIT_FAILED if done.graded.outcome.value in UNGRADED else 0


def _variables(given: tuple[str, ...]) -> dict[str, str]:
    if wrong := next((each for each in given if not _VARIABLE.fullmatch(each)), None):
        raise fail(f"--env {wrong}: expected NAME=VALUE", EXIT_USAGE)
    return dict(each.split("=", 1) for each in given)


def _grader_settings(runtime: str | None, directory: Path) -> GraderSettings:
    """Return the settings of a grader on this host, with its variables, such as BROADWAY_RUNTIME."""
    chosen = ["--runtime", runtime] if runtime else []
    arguments = ["no-token", NAME, "--work-dir", str(directory), "--slots", "1", *chosen]
    return load(GraderSettings, prog="broadway assignment validate --run", arguments=arguments)


def _until_signaled(run: Coroutine[Any, Any, DryRun]) -> DryRun:
    """Run to the end, or until SIGINT or SIGTERM, after which no container is left."""

    async def supervised() -> DryRun | int:
        task, stopped = asyncio.ensure_future(run), list[int]()

        def stop(number: int) -> None:
            stopped.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        try:
            return await task
        except asyncio.CancelledError:
            if not stopped:
                raise
            return stopped[0]

    ended = asyncio.run(supervised())
    if isinstance(ended, int):
        raise fail("stopped; nothing is left running", 128 + ended)
    return ended


def _views(done: DryRun, job: str, settings: AssignmentSettings) -> dict[Role, ReportView]:
    """Return the report as each role sees it before the due date; empty without a report."""
    results = [each.entry() for each in done.graded.results]
    found = report_in(results, job_id=job, execution_id="")
    standing = Standing(datetime.now(UTC), points=settings.points)
    return {role: report_view(job, shown_to(found, role, standing), role) for role in Role} if found else {}


def _show(done: DryRun, views: dict[Role, ReportView], *, shows_log: bool) -> None:
    from broadway.cli.tables import report_table  # noqa: PLC0415 - JSON does not need it

    graded = done.graded
    if shows_log or graded.outcome.value in UNGRADED:
        terminal.show_output(graded.stdout, graded.stderr)
    terminal.message(f"outcome: {graded.outcome.value}{graded.reason and f' ({graded.reason})'}")
    for file in done.artifacts.files.values():
        terminal.message(f"artifact {file.path}: {file.size} bytes")
    if done.artifacts.note:
        terminal.message(done.artifacts.note.strip())
    if not views:
        terminal.message("there is no report: a job without one has all points if it succeeds, and 0 if it fails")
    for role, view in views.items():
        terminal.line(f"{'Staff' if role is Role.STAFF else 'The student'} would see:")
        report_table(view)
        if role is Role.STUDENT:
            terminal.message(f"the student may {'' if view.shows_log else 'not '}see the log")


def _show_json(done: DryRun, views: dict[Role, ReportView]) -> None:
    graded = done.graded
    terminal.document(
        {
            "outcome": graded.outcome.value,
            "reason": graded.reason,
            "log": graded.stdout,
            "errors": graded.stderr,
            "artifacts": [
                {"path": each.path, "size": each.size, "sha256": each.sha256} for each in done.artifacts.files.values()
            ],
            **{role.value: view.model_dump(mode="json") for role, view in views.items()},
        }
    )

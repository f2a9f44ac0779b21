"""`broadway run ...`: start runs, follow them, look at them, and change them."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    EXIT_FAILED,
    EXIT_STILL_RUNNING,
    AsJson,
    Assignment,
    Course,
    CourseServer,
    CurrentConfig,
    Limit,
    Reason,
    RunId,
    Token,
    Yes,
    client,
    confirm,
    fail,
)

if TYPE_CHECKING:
    from broadway.client import Client
    from broadway.messages.resources.runs import OrderView, RunDetail

SHOWN = 12  # characters of a digest
INFRASTRUCTURE_ERROR = "infrastructure_error"
FEW = 20  # jobs that are printed after a run has been watched

app = typer.Typer(help="Grading runs.", no_args_is_help=True)

ExitStatus = Annotated[
    bool,
    typer.Option(
        "--exit-status",
        help="Exit 1 if a job ended as an infrastructure error, or the run itself failed; failed tests do not count.",
    ),
]
Timeout = Annotated[
    float | None, typer.Option(min=0, help="Seconds to wait; exit 8 if they end.", show_default="no limit")
]


@app.command("submit")
def submit(
    assignment: Assignment,
    *,
    student: Annotated[
        list[str] | None,
        typer.Option(help="A student or a group of the roster; may be repeated.", show_default="the whole roster"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the students who would be graded, and start nothing.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="Your name for this run: repeated commands start one.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait until the run is over.")] = False,
    exit_status: ExitStatus = False,
    timeout: Timeout = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Start a run for an assignment's students.

    They are those of its roster, or some of them; files that they handed in are graded in their latest versions. The
    run's id is printed.
    """
    students = list(dict.fromkeys(student)) if student else None
    with client(server, course, token) as api:
        if dry_run:
            _show_planned(api, assignment, students, as_json=as_json)
            return
        run = api.start(assignment, students, key=key)
        terminal.message(f"run of {run.students} students: {run.state}")
        if not as_json:
            terminal.line(run.id)
        detail = _watched(api, run.id, timeout) if watch else None
    if as_json:
        terminal.document((detail or run).model_dump(mode="json"))
    raise typer.Exit(_code(detail, exit_status=exit_status))


def _show_planned(api: "Client", assignment: str, students: list[str] | None, *, as_json: bool) -> None:
    """Print the entries of a roster that a run would grade."""
    entries = {str(entry.get("student")): entry for entry in api.roster(assignment)["students"]}
    for student in students or ():
        if student not in entries:
            raise fail(f"--student {student}: not in the roster of {assignment}, which `broadway roster show` prints")
    planned = [entries[student] for student in students or entries]
    terminal.message(f"a run of {len(planned)} students; nothing is started")
    if as_json:
        terminal.document(planned)
        return
    from broadway.cli.tables import roster_table  # noqa: PLC0415 - --help must not wait for it

    roster_table(planned)


@app.command("list")
def list_runs(
    *,
    assignment: Annotated[
        str | None, typer.Option("--assignment", "-a", help="List only this assignment's.", show_default=False)
    ] = None,
    limit: Limit = 50,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a course, latest first.

    A run that a submission or a push started has its student and the score.
    """
    with client(server, course, token) as api:
        found = api.runs(assignment, limit=limit)
    if as_json:
        terminal.document([each.model_dump(mode="json") for each in found])
        return
    from broadway.cli.tables import runs_table  # noqa: PLC0415

    runs_table(found)


@app.command("watch")
def watch(
    run_id: RunId,
    *,
    exit_status: ExitStatus = False,
    timeout: Timeout = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Follow a run until it is over.

    Each change is reported on stderr. At the end there is a line for each phase, and for each job of a small run, with
    the student and the score. Failed tests do not fail the command.
    """
    with client(server, course, token) as api:
        run = _watched(api, run_id, timeout)
        if as_json:
            terminal.document(run.model_dump(mode="json"))
        else:
            _show_end(api, run)
    raise typer.Exit(_code(run, exit_status=exit_status))


def _show_end(api: "Client", run: "RunDetail") -> None:
    """Print a line for each phase of a run, and its jobs if they are few."""
    from broadway.cli.tables import jobs_table, phase_table  # noqa: PLC0415

    phase_table(run)
    if sum(phase.jobs for phase in run.phases) <= FEW:
        jobs_table(api.jobs(run.id, limit=FEW))
    else:
        terminal.message(f"`broadway run show {run.id}` prints the students with their scores")


def _watched(api: "Client", run_id: str, timeout: float | None) -> "RunDetail":
    """Follow a run, with a message for each change; return its last state."""
    within = math.inf if timeout is None else timeout
    told = ""
    for run in api.watch(run_id, within=within):
        if (text := _progress(run)) != told:
            terminal.message(text)
            told = text
    if not run.is_over:
        terminal.message(f"not over within {within:g} s; the run goes on")
    return run


def _progress(run: "RunDetail") -> str:
    """Return a sentence about a run: its state, and the outcomes of the phase that it is in."""
    if run.is_over:
        return f"{run.state}: {run.reason}" if run.reason else run.state
    if not run.phases:
        return run.state
    phase = run.phases[-1]
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(phase.outcomes.items()))
    return f"{phase.phase}: {sum(phase.outcomes.values())} of {phase.jobs} jobs ended{outcomes and f' ({outcomes})'}"


def _code(run: "RunDetail | None", *, exit_status: bool) -> int:
    """Return the exit code of a command that has watched a run; None stands for one that has not."""
    if run is None:
        return 0
    if not run.is_over:
        return EXIT_STILL_RUNNING
    if not exit_status:
        return 0
    has_errors = any(phase.outcomes.get(INFRASTRUCTURE_ERROR) for phase in run.phases)
    return EXIT_FAILED if has_errors or not run.success else 0


@app.command("show")
def show(
    run_id: RunId,
    *,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show a run: a line for each job, with its student, outcome, score and the reason."""
    with client(server, course, token) as api:
        run = api.run(run_id)
    if as_json:
        terminal.document(run.model_dump(mode="json"))
        return
    from broadway.cli.tables import run_table  # noqa: PLC0415

    run_table(run)


@app.command("cancel")
def cancel(
    run_id: RunId,
    *,
    reason: Reason = None,
    yes: Yes = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Cancel a run: waiting jobs never start, running ones are killed."""
    confirm(f"cancel run {run_id}", yes=yes)
    with client(server, course, token) as api:
        done = api.cancel_run(run_id, reason=reason)
    if done.state == "failed":
        terminal.line(f"{done.count} jobs cancelled; the run is {done.state}")
    else:
        terminal.line(f"cancelling {done.count} jobs: none of them starts any more")


@app.command("rerun")
def rerun(
    run_id: RunId,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only jobs that have not succeeded.")] = False,
    current_config: CurrentConfig = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
) -> None:
    """Run the jobs of a run again, and then the phases after them."""
    with client(server, course, token) as api:
        done = api.rerun_run(run_id, failed=failed, with_current_config=current_config)
    terminal.line(f"{done.count} jobs queued; the run is in {done.state}, round {done.round}{config_used(done)}")


def config_used(done: "OrderView") -> str:
    """Name the config that a rerun uses; an older server does not."""
    if done.is_config_current is None:
        return ""
    config = f" ({_digests(done)})" if done.config and done.config_before else ""
    if done.is_config_current:
        return f"; with the assignment's current config{config}"
    kept = f"the config that the run has kept{config}"
    return f"; with {kept}: the assignment has another one now, which --current-config uses"


def _digests(done: "OrderView") -> str:
    """Return the beginnings of the digests of a rerun's configs."""
    before, now = (done.config_before or "")[:SHOWN], (done.config or "")[:SHOWN]
    return now if before == now else f"{before} before, {now} now"

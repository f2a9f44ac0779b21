"""`broadway regrade ...`: grade submissions again beside the grades, compare, and publish or discard the result."""

from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    EXIT_STILL_RUNNING,
    EXIT_USAGE,
    AsJson,
    Assignment,
    Course,
    CourseServer,
    Limit,
    Token,
    Yes,
    client,
    confirm,
    fail,
)
from broadway.domain.regrade_terms import Category, Publish, RegradeState, Select

if TYPE_CHECKING:
    from broadway.client import Client
    from broadway.messages.resources.regrades import FlipView, RegradedGrade, RegradeRow, RegradeView

SHOWN = 12  # characters of a digest
MOST_FLIPS = 3  # of a row in a table

app = typer.Typer(help="Regrades: grade again, compare, publish or discard.", no_args_is_help=True)

Identity = Annotated[str, typer.Argument(metavar="REGRADE", help="The regrade's id.")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds for --watch; exit 8 if they end.")]
Watch = Annotated[bool, typer.Option("--watch", help="Wait until it is ready, and print the difference.")]
OnlyCategory = Annotated[Category | None, typer.Option(help="Only students of this category.", show_default=False)]


@app.command("start")
def start(
    assignment: Assignment,
    *,
    select: Annotated[Select, typer.Option(help="The submissions to grade again.")] = Select.LATEST,
    submission: Annotated[
        list[str] | None, typer.Option(help="A chosen submission; may be repeated.", show_default=False)
    ] = None,
    control: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Percent (at least 5) graded with the old config, too.", show_default="none"),
    ] = None,
    reason: Annotated[str, typer.Option(help="Reason, for staff.", show_default=False)] = "",
    key: Annotated[
        str | None, typer.Option(help="Your name for this regrade: repeated commands start one.", show_default=False)
    ] = None,
    watch: Watch = False,
    timeout: Timeout = 3600,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Grade submissions again with the assignment's present config. Students see nothing of it.

    Its jobs wait for all others of the course. Print the regrade's id; `regrade show` prints the difference.
    """
    from broadway.messages.resources.regrades import RegradeStart  # noqa: PLC0415 - --help must not wait for it

    chosen = submission or []
    if (select is Select.CHOSEN) is not bool(chosen):
        raise fail("--submission: expected with --select chosen, and only then", EXIT_USAGE)
    order = RegradeStart(select=select.value, submissions=chosen, control_percent=control, reason=reason)
    with client(server, course, token) as api:
        made = api.start_regrade(assignment, order, key=key)
        terminal.message(f"regrade of {assignment} with the config {made.config[:SHOWN]}: {made.state}")
        if not watch:
            if as_json:
                terminal.document(made.model_dump(mode="json"))
            else:
                terminal.line(made.id)
            return
        _watch(api, made.id, within=timeout)
        _print(api, made.id, category=None, limit=None, as_json=as_json)


@app.command("list")
def list_regrades(
    assignment: Assignment,
    *,
    limit: Limit = 50,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """List the regrades of an assignment, latest first."""
    with client(server, course, token) as api:
        found = api.regrades(assignment, limit=limit)
    if as_json:
        terminal.document([each.model_dump(mode="json") for each in found])
        return
    rows = [
        (
            each.id,
            each.state,
            each.select,
            str(each.submissions),
            each.by,
            f"{each.created_at:%Y-%m-%d %H:%M}",
            "" if each.version is None else str(each.version),
            each.reason,
        )
        for each in found
    ]
    terminal.table(("id", "state", "select", "submissions", "by", "created at", "version", "reason"), rows)


@app.command("show")
def show(
    regrade: Identity,
    *,
    category: OnlyCategory = None,
    limit: Limit = 1000,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show a regrade: its state, the changes that students share, and a line for each student, the worst first."""
    with client(server, course, token) as api:
        _print(api, regrade, category=category, limit=limit, as_json=as_json)


@app.command("refresh")
def refresh(
    regrade: Identity,
    *,
    watch: Watch = False,
    timeout: Timeout = 3600,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Grade those students again who have changed, or with whose submissions the infrastructure failed."""
    with client(server, course, token) as api:
        made = api.refresh_regrade(regrade)
        terminal.message(f"{made.jobs - made.done} jobs to run")
        if watch:
            _watch(api, regrade, within=timeout)
            _print(api, regrade, category=None, limit=None, as_json=as_json)
        elif as_json:
            terminal.document(made.model_dump(mode="json"))


@app.command("publish")
def publish(
    regrade: Identity,
    *,
    note: Annotated[str, typer.Option(help="The reason, for the students.", show_default=False)],
    only_raise: Annotated[bool, typer.Option("--only-raise", help="Lower no grade.")] = False,
    student: Annotated[
        list[str] | None,
        typer.Option(help="Only this student's grade; may be repeated.", show_default="all students"),
    ] = None,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep grades where the infrastructure failed with the regrade.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="Your name for this order: repeated commands are one.", show_default=False)
    ] = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Publish the grades of a regrade as a new version of the grade book.

    The command is refused if the class has changed since the regrade ran (`regrade refresh` helps), or if another
    version was published meanwhile.
    """
    chosen = student or []
    if chosen and only_raise:
        raise fail("--student: chosen grades are published as they are, without --only-raise", EXIT_USAGE)
    which = Publish.CHOSEN if chosen else Publish.RAISE if only_raise else Publish.ALL
    with client(server, course, token) as api:
        done = api.publish_regrade(regrade, which, note=note, students=chosen, keep_old=keep_old, key=key)
    if as_json:
        terminal.document(done.model_dump(mode="json"))
    else:
        terminal.line(f"published as version {done.version}")


@app.command("discard")
def discard(
    regrade: Identity,
    *,
    yes: Yes = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Discard a regrade with its reports and logs. The grade book stays as it is."""
    confirm(f"discard regrade {regrade}", yes=yes)
    with client(server, course, token) as api:
        done = api.discard_regrade(regrade)
    if as_json:
        terminal.document(done.model_dump(mode="json"))
    else:
        terminal.line(f"regrade {done.id} is {done.state}")


def _watch(api: "Client", identity: str, *, within: float) -> None:
    """Wait until the jobs of a regrade have ended."""
    told = ""
    for found in api.watch_regrade(identity, within=within):
        if (text := f"{found.state}: {found.done} of {found.jobs} jobs") != told:
            terminal.message(text)
            told = text
        if found.is_over:
            return
    terminal.message(f"not ready within {within:g} s; the regrade goes on")
    raise typer.Exit(EXIT_STILL_RUNNING)


def _print(api: "Client", identity: str, *, category: Category | None, limit: int | None, as_json: bool) -> None:
    found = api.regrade(identity)
    most = 1_000_000 if limit is None else limit
    rows = list(api.regrade_rows(identity, category=category, limit=most)) if found.counts is not None else []
    if as_json:
        terminal.document({**found.model_dump(mode="json"), "rows": [each.model_dump(mode="json") for each in rows]})
        return
    _summary(found)
    if found.counts is not None:
        head = ("student", "category", "old", "new", "tests", "unstable", "old job", "new job")
        terminal.table(head, map(_row, rows))


def _summary(found: "RegradeView") -> None:
    terminal.message(f"{found.assignment} {found.id}: {found.state}, {found.done} of {found.jobs} jobs")
    if found.state is RegradeState.STALE:
        terminal.message("the class has changed since it ran; `broadway regrade refresh` grades those students again")
    terminal.message(f"config {_digests(found.old_configs)} before, {found.config[:SHOWN]} now")
    if found.old_images or found.new_images:
        terminal.message(f"images {_digests(found.old_images)} before, {_digests(found.new_images)} now")
    if found.counts:
        terminal.message(", ".join(f"{count} {each}" for each, count in found.counts.items()))
    if found.control:
        terminal.message(f"control group: {len(found.unstable)} of {found.control} submissions are unstable")
    for group in found.groups:
        terminal.message(group.text)


def _digests(found: list[str]) -> str:
    return ", ".join(each.removeprefix("sha256:")[:SHOWN] for each in found) or "unknown"


def _row(row: "RegradeRow") -> tuple[str, ...]:
    return (
        row.student,
        row.category,
        _points(row.old),
        _points(row.new),
        _flips(row.flips, row.flips_count),
        "" if row.is_unstable is None else "yes" if row.is_unstable else "no",
        _job(row.old),
        _job(row.new),
    )


def _points(grade: "RegradedGrade | None") -> str:
    return "-" if grade is None or grade.points is None else grade.points


def _job(grade: "RegradedGrade | None") -> str:
    return "" if grade is None or grade.job is None else grade.job


def _flips(flips: "list[FlipView]", count: int) -> str:
    texts = [f"{each.test} {each.before or 'missing'}→{each.after or 'missing'}" for each in flips[:MOST_FLIPS]]
    more = [f"and {count - MOST_FLIPS} more"] if count > MOST_FLIPS else []
    return ", ".join([*texts, *more])

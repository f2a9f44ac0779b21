"""Students' standings on the terminal: the times and attempts of assignments, late days and choices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import EXIT_USAGE, AsJson, Assignment, Course, CourseServer, Token, fail, submissions_client

if TYPE_CHECKING:
    from broadway.messages.resources.standings import StandingView

COLUMNS = ("assignment", "due", "closes", "attempts left", "late days left", "submissions", "now")
Student = Annotated[str | None, typer.Option(help="The student; staff must name it.", show_default=False)]


def choose(
    assignment: Assignment,
    submission: Annotated[
        str | None, typer.Argument(metavar="SUBMISSION", help="The submission's id.", show_default=False)
    ] = None,
    *,
    nothing: Annotated[bool, typer.Option("--none", help="Take the choice back: the latest counts again.")] = False,
    student: Student = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Choose the submission that counts, where the assignment's policy has `counts` `chosen`.

    A student may choose until the assignment closes for that student, and staff at any time.
    """
    if nothing is (submission is not None):
        raise fail("expected either SUBMISSION or --none", EXIT_USAGE)
    with submissions_client(server, course, token) as api:
        standing = api.choose(assignment, submission, student=student)
    if as_json:
        terminal.document(standing.model_dump(mode="json"))
    else:
        terminal.message(f"{assignment}: {standing.chosen or 'the latest'} counts for {standing.student}")


def claim_late_days(
    assignment: Assignment,
    days: Annotated[int, typer.Argument(min=0, metavar="DAYS", help="The days, instead of those claimed before.")],
    *,
    student: Student = None,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Claim late days for an assignment, where its policy has `late_days.spend` `claimed`."""
    with submissions_client(server, course, token) as api:
        standing = api.claim_late_days(assignment, days, student=student)
    if as_json:
        terminal.document(standing.model_dump(mode="json"))
    else:
        left = standing.late_days.left if standing.late_days else 0
        terminal.message(f"{assignment}: {days} late days of {left} are claimed for {standing.student}")


def standings_table(standings: "Sequence[StandingView]") -> None:
    """Print a line for each assignment of a student."""
    from broadway.cli.tables import records_table  # noqa: PLC0415 - --help must not wait for it

    records_table([dict(zip(COLUMNS, _row(each), strict=True)) for each in standings], COLUMNS)


def _row(standing: "StandingView") -> tuple[str, ...]:
    attempts, late_days = standing.attempts, standing.late_days
    return (
        standing.assignment,
        standing.due.text if standing.due else "",
        standing.closes.text if standing.closes else "",
        "" if attempts is None or attempts.left is None else str(attempts.left),
        "" if late_days is None else str(late_days.left),
        str(len(standing.submissions)),
        standing.message or ("open" if standing.can_hand_in else "closed"),
    )

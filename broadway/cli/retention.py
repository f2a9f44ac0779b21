"""`broadway retention ...`: how long old things are kept, and their removal."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli import terminal
from broadway.cli.common import (
    EXIT_STILL_RUNNING,
    EXIT_USAGE,
    LOCAL,
    AsJson,
    Course,
    CourseServer,
    Token,
    Yes,
    client,
    confirm,
    fail,
    operator,
    operators_token,
    print_records,
)
from broadway.domain.counts import plural

if TYPE_CHECKING:
    from broadway.client import Client, Operator
    from broadway.messages.resources.retention import PassView, RetentionView

POLL = 0.5  # seconds
NAMES = ("works", "logs", "regrades", "deliveries", "tokens")  # of CourseRules, whose import takes long
DEFAULT, KEEP = "default", "keep"

app = typer.Typer(help="How long old things are kept.", no_args_is_help=True)

Deployment = Annotated[
    bool,
    typer.Option(
        "--deployment", help="Dead letters, graders and join tokens; takes the operators' token, and needs no course."
    ),
]
Rules = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME=DAYS",
        help=f"Of {', '.join(NAMES)}: a number of days, `{KEEP}`, or `{DEFAULT}` for the deployment's rule.",
    ),
]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait for the end of the pass.")]


@app.command("show")
def show(
    *,
    deployment: Deployment = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Show the rules in force, and the passes that have ended last."""
    _print(_read(server, course, token, deployment=deployment), as_json=as_json)


@app.command("set")
def set_rules(
    rules: Rules,
    *,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Change a course's own rules; those that are not named stay. The next pass applies them."""
    changes = dict(map(_rule, rules))
    with client(server, course, token, or_operator=True) as api:
        found = api.set_retention({**api.retention().own, **changes})
    _print(found, as_json=as_json)


@app.command("run")
def run(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Yes = False,
    timeout: Timeout = 600.0,
    deployment: Deployment = False,
    course: Course = None,
    token: Token = None,
    server: CourseServer = None,
    as_json: AsJson = False,
) -> None:
    """Apply the rules now, and wait for the end. With --dry-run, count what would be removed."""
    if not dry_run:
        confirm("remove what is older than the rules say", yes=yes)
    with _api(server, course, token, deployment=deployment) as api:
        ordered = api.run_retention(dry_run=dry_run)
    _show_pass(
        _ended(ordered.id, lambda: _read(server, course, token, deployment=deployment), timeout), as_json=as_json
    )


def _read(server: str | None, course: str | None, token: str | None, *, deployment: bool) -> "RetentionView":
    with _api(server, course, token, deployment=deployment) as api:
        return api.retention()


def _api(
    server: str | None, course: str | None, token: str | None, *, deployment: bool
) -> AbstractContextManager["Client | Operator"]:
    """Connect as an operator for the deployment, else for a course."""
    if deployment:
        return operator(server or LOCAL, operators_token() or token)
    return client(server, course, token, or_operator=True)


def _rule(text: str) -> tuple[str, int | str | None]:
    name, _, value = text.partition("=")
    if name not in NAMES or not (value in (KEEP, DEFAULT) or (value.isascii() and value.isdigit())):
        raise fail(f"{text}: expected NAME=DAYS, with a NAME of {', '.join(NAMES)}", EXIT_USAGE)
    return name, value if value == KEEP else None if value == DEFAULT else int(value)


def _ended(identity: str, read: Callable[[], "RetentionView"], timeout: float) -> "PassView":
    deadline = time.monotonic() + timeout
    while True:
        found = read()
        for made in (found.last, found.last_dry_run):
            if made and made.id == identity:
                return made
        if time.monotonic() > deadline:
            raise fail("the pass has not ended; `broadway retention show` has its result later", EXIT_STILL_RUNNING)
        time.sleep(POLL)


def _print(found: "RetentionView", *, as_json: bool) -> None:
    if as_json:
        terminal.document(found.model_dump(mode="json"))
        return
    own = {name: rule for name, rule in found.own.items() if rule is not None}
    rows = [
        {"rule": name, "days": KEEP if days is None else days, "from": "course" if name in own else "deployment"}
        for name, days in found.days.items()
    ]
    print_records(rows, ("rule", "days", "from"), as_json=False)
    if found.ordered:
        terminal.message("a pass is under way")
    for made in (found.last, found.last_dry_run):
        if made:
            terminal.message(f"{_sentence(made)} ({made.ended_at:%Y-%m-%d %H:%M} UTC)")


def _show_pass(made: "PassView", *, as_json: bool) -> None:
    if as_json:
        terminal.document(made.model_dump(mode="json"))
        return
    rows = [{"kind": kind, "number": number} for kind, number in made.counts.items()]
    print_records(rows, ("kind", "number"), as_json=False)
    for assignment, reason in made.kept.items():
        terminal.message(f"all works of {assignment} stay: {reason}")
    terminal.message(_sentence(made))


def _sentence(made: "PassView") -> str:
    number = plural(sum(made.counts.values()), "thing")
    return f"a pass would remove {number}" if made.dry_run else f"the last pass has removed {number}"

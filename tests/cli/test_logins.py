"""Stored tokens: where they are sent, and what a person reads where there is none."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from scripted import Answer, server
from typer.testing import CliRunner

from broadway.cli.app import app
from broadway.cli.logins import Login, Logins

NO_RUNS: Answer = (200, {}, b'{"items": [], "next": null}')


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory, and an environment without Broadway's variables."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("SERVER", "COURSE", "COURSE_TOKEN", "OPERATOR_TOKEN", "TOKEN"):
        monkeypatch.delenv(f"BROADWAY_{name}", raising=False)
    return tmp_path


def typed(*arguments: str, said: str | None = None, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, input=said, env=environment)


def principal(*courses: str, kind: str = "course") -> Answer:
    return 200, {}, json.dumps({"kind": kind, "name": "Ada", "courses": list(courses)}).encode()


def test_the_course_is_that_of_the_token() -> None:
    with server(principal("cs101")) as (address, _):
        done = typed("login", "--server", address, said="secret\n")

    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"logged in to cs101 at {address} as Ada; ")
    assert Logins.read().token_of(address, "cs101") == "secret"


@pytest.mark.parametrize(
    ("answer", "course", "said"),
    [
        (principal("cs101"), ["-c", "cs102"], "--course cs102: this token is of cs101"),
        (principal("a", "b"), [], "this token is of several courses; give one as --course: a, b"),
        (principal(kind="operator"), ["-c", "a"], "this token is one of kind operator; expected one of a course"),
    ],
    ids=["another course", "several courses", "an operator"],
)
def test_a_token_of_another_kind_is_not_stored(answer: Answer, course: list[str], said: str) -> None:
    with server(answer) as (address, _):
        done = typed("login", "--server", address, *course, said="secret\n")

    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert Logins.read().stored == ()


@pytest.mark.parametrize(("text", "said"), [("sec ret\n", "blank at position"), ("\n", "no token: type it")])
def test_a_token_that_is_none_is_refused_in_a_line(text: str, said: str) -> None:
    done = typed("login", "-c", "cs101", "--server", "http://127.0.0.1:9", said=text)

    assert (done.exit_code, done.stderr.count("\n"), said in done.stderr) == (2, 1, True), done.stderr
    assert "sec ret" not in done.stderr


def test_an_assignment_that_cannot_exist_is_refused_before_a_request() -> None:
    done = typed("assignment", "show", "mp 1", "-c", "cs101", "--token", "t", "--server", "http://127.0.0.1:9")

    assert (done.exit_code, "letters, digits, dashes and" in done.stderr) == (2, True), done.stderr


def test_a_variable_that_hides_the_login_is_named() -> None:
    with server(principal("cs101")) as (address, _):
        done = typed("login", "--server", address, said="secret\n", BROADWAY_COURSE_TOKEN="other")

    assert "BROADWAY_COURSE_TOKEN is set, and commands use that instead" in done.stderr


def test_a_slash_at_the_end_of_an_address_makes_no_other_server() -> None:
    with server(NO_RUNS) as (address, seen):
        Logins.read().add(Login(address, "cs101", "secret"))
        done = typed("run", "list", "--server", f"{address}/")

    assert (done.exit_code, len(seen)) == (0, 1), done.output


@pytest.mark.parametrize(
    "command",
    [
        ["run", "list"],
        ["job", "show", "j1"],
        ["job", "report", "j1"],
        ["submission", "list", "mp1"],
        ["whoami"],
        ["audit", "-c", "cs101"],
        ["student", "token", "list"],
    ],
    ids=" ".join,
)
def test_a_stored_token_goes_to_its_own_server_only(command: list[str]) -> None:
    with server((404, {}, b'{"detail": "reached"}')) as (own, seen), server(NO_RUNS) as (other, foreign):
        Logins.read().add(Login(own, "cs101", "secret"))
        here = typed(*command)
        there = typed(*command, "--server", other)
        there_by_variable = typed(*command, BROADWAY_SERVER=other, BROADWAY_COURSE="cs101")

    assert (here.stderr, len(seen) > 0) == ("broadway: reached\n", True)
    assert (there.exit_code in (2, 4), there_by_variable.exit_code, foreign) == (True, 4, [])


def test_a_course_without_a_login_is_not_logged_in() -> None:
    Logins.read().add(Login("http://127.0.0.1:9", "cs101", "secret"))
    done = typed("run", "list", "-c", "cs102")

    assert done.exit_code == 4
    assert done.stderr.startswith("broadway: no token for cs102 at http://127.0.0.1:9: give --token, ")


def test_an_operators_command_says_that_no_login_has_its_token() -> None:
    with server(NO_RUNS) as (address, seen):
        Logins.read().add(Login(address, "cs101", "secret"))
        done = typed("grader", "list", "--server", address)

    assert (done.exit_code, seen) == (4, [])
    assert done.stderr == (
        "broadway: no operators' token: give --token, or set BROADWAY_OPERATOR_TOKEN or BROADWAY_TOKEN; "
        "no login has it\n"
    )


def test_the_login_comes_before_an_operators_token_which_stays_at_the_operators_server() -> None:
    with server(principal("cs101")) as (address, seen):
        Logins.read().add(Login(address, "cs101", "secret"))
        first = typed("whoami", BROADWAY_OPERATOR_TOKEN="operator")
        Logins.read().remove(address, "cs101")
        Logins.read().add(Login(address, "", "stored"))
        typed("whoami", "-c", "cs102", BROADWAY_OPERATOR_TOKEN="operator")

    assert "Ada" in first.stdout
    assert seen == ["GET /api/v2/whoami"]


@pytest.mark.parametrize("text", ["", "[1]", "[" * 100_000, '[{"server": 1}]'], ids=["empty", "1", "deep", "number"])
def test_a_damaged_file_is_named_and_not_replaced(home: Path, text: str) -> None:
    file = home / "broadway" / "logins.json"
    file.parent.mkdir()
    file.write_text(text)

    listed = typed("run", "list", "-c", "cs101")
    again = typed("login", "-c", "cs101", said="secret\n")

    for done in (listed, again):
        assert f"{file}: it is damaged; remove it, and log in again" in done.stderr, done.stderr
    assert (listed.exit_code, again.exit_code, file.read_text()) == (4, 1, text)

"""A session with servers that are not Broadway, are busy, or do not exist; each ends with a sentence."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from scripted import Answer, server
from typer.testing import CliRunner

from broadway.cli.app import app
from broadway.client import Client, ClientError, Operator
from broadway.session import LONGEST_WAIT, TRIES, Session, opened

OK: Answer = (200, {"Content-Type": "application/json"}, b'{"a": 1}')
HTML: Answer = (200, {"Content-Type": "text/html"}, b"<html>Log in</html>")
EMPTY: Answer = (200, {"Content-Type": "application/json"}, b"{}")
ITEM: Answer = (200, {"Content-Type": "application/json"}, b'{"items": [{}], "students": [{}], "next": null}')
SECRET = "staff-secret"


def busy(after: str | None, status: int = 503) -> Answer:
    return status, {} if after is None else {"Retry-After": after}, b'{"detail": "the store is away"}'


FOREIGN: dict[str, tuple[Answer, str]] = {
    "a page": (HTML, "is no Broadway API: it answered with a web page (HTML)"),
    "nothing known": ((200, {}, b"\xff\x00"), "it answered with bytes of no declared type"),
    "a list": ((200, {"Content-Type": "application/json"}, b"[]"), "it answered with JSON that is no object"),
    "another object": ((200, {"Content-Type": "application/json"}, b"{}"), "it answered with JSON of another shape"),
    "a redirect": ((302, {"Location": "https://sso.example.org/"}, b""), "redirects to https://sso.example.org/"),
    "a redirect to nowhere": ((301, {}, b""), "redirects to another address"),
    "bad compression": ((200, {"Content-Encoding": "gzip"}, b"{}"), "its answer cannot be decompressed"),
    "a proxy's error": ((502, {"Content-Type": "text/html"}, b"<html>nginx"), "status 502 Bad Gateway, from a server"),
    "an error in a list": ((500, {"Content-Type": "application/json"}, b"[]"), "status 500 Internal Server Error"),
}
COMMANDS = [
    ["run", "show", "r1"],
    ["run", "submit", "mp1"],
    ["run", "submit", "mp1", "--watch"],
    ["run", "submit", "mp1", "--dry-run"],
    ["run", "list"],
    ["run", "watch", "r1"],
    ["run", "rerun", "r1"],
    ["job", "rerun", "j1"],
    ["job", "show", "j1"],
    ["job", "report", "j1"],
    ["assignment", "list"],
    ["assignment", "show", "mp1"],
    ["submission", "list", "mp1"],
    ["submission", "show", "s1"],
    ["whoami"],
    ["audit"],
    ["course", "token", "list"],
    ["course", "token", "add", "Ada"],
    ["student", "token", "add", "ada"],
    ["grader", "token", "list"],
    ["grader", "token", "create"],
    ["job", "log", "j1"],
    ["hook", "list"],
    ["hook", "show", "git"],
    ["roster", "show", "mp1"],
    ["grader", "list"],
    ["grader", "pause", "g1"],
    ["dead", "list"],
]


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_answer_that_is_not_broadways_is_a_sentence(kind: str) -> None:
    answer, said = FOREIGN[kind]
    with (
        server(answer) as (address, _),
        Client.connect(address, course="c", token=SECRET) as client,
        pytest.raises(ClientError) as error,
    ):
        client.run("r1")

    assert said in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("answer", [HTML, EMPTY, ITEM, (302, {}, b"")])
def test_no_command_ends_with_a_traceback(command: list[str], answer: Answer) -> None:
    course = [] if command[0] in ("grader", "dead", "audit") else ["-c", "c"]
    with server(answer) as (address, _):
        done = CliRunner().invoke(app, [*command, "--server", address, "--token", SECRET, *course])

    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.startswith("broadway: ") or (answer is ITEM and done.exit_code == 0)


ADDRESSES = ["http://[::1", "http://::1:1470", "ftp://x", "x y", "", "http://h\r", "http://u:pass@[", "http://h:99999"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_is_none_is_a_sentence(address: str) -> None:
    done = CliRunner().invoke(app, ["run", "show", "r1", "--server", address, "--token", SECRET, "-c", "c"])

    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (1, True), done.exception
    assert "--server" in done.stderr
    assert "pass" not in done.stderr


@pytest.mark.parametrize("token", ["t\r", "t\n", "t t", "t\t", "", "\u65e5", "t\xe9", "\x1bt"])
@pytest.mark.parametrize("command", [["run", "show", "r1", "-c", "c"], ["grader", "list"]], ids=["course", "cluster"])
def test_a_token_that_no_header_can_carry_is_refused_by_its_name(command: list[str], token: str) -> None:
    variables = {"BROADWAY_COURSE_TOKEN": f"secret{token}", "BROADWAY_TOKEN": f"secret{token}"}
    done = CliRunner().invoke(app, [*command, "--server", "http://127.0.0.1:9"], env=variables)

    if not token:
        assert done.exit_code == 1, "it is a usable token, and no server answers"
        return
    assert done.exit_code == 2
    assert "BROADWAY_COURSE_TOKEN" in done.stderr or "BROADWAY_TOKEN" in done.stderr
    assert "no header can carry" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("identity", ["..", "", "."])
def test_an_id_cannot_lead_to_another_resource(identity: str) -> None:
    with server(OK) as (address, seen), Client.connect(address, course="c", token=SECRET) as client:
        with pytest.raises(ClientError, match="is no id or name"):
            client.delete_hook(identity)
        assert seen == []


def test_an_id_is_one_part_of_a_path() -> None:
    with server(OK) as (address, seen), Client.connect(address, course="c", token=SECRET) as client:
        client.delete_hook("a/../b?c#d")

    assert seen == ["DELETE /api/v2/courses/c/hooks/a%2F..%2Fb%3Fc%23d"]


Ask = Callable[[Session], Any]
REPEATABLE = [("GET", {}), ("PUT", {}), ("DELETE", {}), ("POST", {"Idempotency-Key": "k"})]


def asked(address: str, method: str, headers: dict[str, str]) -> tuple[list[float], dict[str, Any] | ClientError]:
    """Send a request; return the pauses between the tries, and the answer."""
    pauses: list[float] = []
    with opened(address, None) as http:
        session = Session(http, token=SECRET, pause=pauses.append)
        try:
            return pauses, session._request(method, "/", {}, headers)  # noqa: SLF001 - methods of clients call it
        except ClientError as error:
            return pauses, error


@pytest.mark.parametrize(("method", "headers"), REPEATABLE)
@pytest.mark.parametrize("status", [429, 503])
def test_a_request_that_may_be_repeated_waits_as_long_as_the_server_asks(
    method: str, headers: dict[str, str], status: int
) -> None:
    with server(busy("2", status), busy("0", status), OK) as (address, seen):
        pauses, answer = asked(address, method, headers)

    assert (pauses, answer, len(seen)) == ([2.0, 0.0], {"a": 1}, 3)


def test_a_request_that_may_not_be_repeated_is_sent_once() -> None:
    with server(busy("1"), OK) as (address, seen):
        pauses, answer = asked(address, "POST", {})

    assert (pauses, str(answer), len(seen)) == ([], "the store is away", 1)


@pytest.mark.parametrize("after", [None, "", "soon", "-1", "1e9", str(int(LONGEST_WAIT) + 1), "9" * 400])
def test_a_server_that_names_no_near_time_is_not_asked_again(after: str | None) -> None:
    with server(busy(after), OK) as (address, seen):
        pauses, _ = asked(address, "GET", {})

    assert (pauses, len(seen)) == ([], 1)


def test_a_date_in_the_past_means_at_once() -> None:
    with server(busy("Mon, 30 Nov 2015 12:00:00 GMT"), OK) as (address, _):
        pauses, answer = asked(address, "GET", {})

    assert (pauses, answer) == ([0.0], {"a": 1})


def test_tries_have_an_end() -> None:
    with server(busy("0")) as (address, seen):
        _, answer = asked(address, "GET", {})

    assert (str(answer), len(seen)) == ("the store is away", TRIES)


def ids(*runs: str) -> Answer:
    return 200, {}, json.dumps({"runs": runs, "jobs": []}).encode()


MISSING: Answer = (404, {}, b'{"detail": "not found"}')
DONE: Answer = (200, {}, b'{"run": "r", "state": "failed", "round": 1, "jobs": []}')


def test_the_beginning_of_several_ids_is_refused_with_all_of_them() -> None:
    with (
        server(MISSING, ids("abcdef1", "abcdef2", "other99")) as (address, seen),
        Client.connect(address, course="c", token=SECRET) as client,
        pytest.raises(ClientError, match=r"several ids begin with abcdef; give more of it: abcdef1, abcdef2$"),
    ):
        client.cancel_run("abcdef")

    assert seen == ["POST /api/v2/courses/c/runs/abcdef/cancel", "GET /api/v2/courses/c/ids?prefix=abcdef"]


def test_an_order_goes_to_the_one_id_that_begins_so() -> None:
    with (
        server(MISSING, ids("abcdef1"), DONE) as (address, seen),
        Client.connect(address, course="c", token=SECRET) as client,
    ):
        client.cancel_run("abcdef")

    assert seen[-1] == "POST /api/v2/courses/c/runs/abcdef1/cancel"


@pytest.mark.parametrize("answers", [[MISSING, ids()], [MISSING, MISSING], [MISSING, HTML]])
def test_an_id_that_does_not_exist_is_reported_as_such(answers: list[Answer]) -> None:
    with (
        server(*answers) as (address, _),
        Client.connect(address, course="c", token=SECRET) as client,
        pytest.raises(ClientError, match=r"^not found$"),
    ):
        client.cancel_run("abcdef")


@pytest.mark.parametrize("deliveries", [["d-1234567-a", "d-1234567-b"], ["d-1234567-a"]])
def test_deliveries_and_dead_letters_may_be_named_by_their_beginnings(deliveries: list[str]) -> None:
    page: Answer = (200, {}, json.dumps({"items": [{"id": each} for each in deliveries], "next": None}).encode())
    with server(MISSING, page, OK) as (address, seen), opened(address, None) as http:
        operator = Operator(http, token=SECRET)
        if len(deliveries) > 1:
            with pytest.raises(ClientError, match="d-1234567-a, d-1234567-b"):
                operator.discard("d-1234567")
        else:
            operator.discard("d-1234567")
            assert seen[-1] == "DELETE /api/v2/dead-letters/d-1234567-a"
    with server(MISSING, page, OK) as (address, seen), Client.connect(address, course="c", token=SECRET) as client:
        if len(deliveries) > 1:
            with pytest.raises(ClientError, match="d-1234567-a, d-1234567-b"):
                client.delivery("git", "d-1234567")
        else:
            assert client.delivery("git", "d-1234567") == {"a": 1}

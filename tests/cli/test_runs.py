"""The commands that start and follow runs, against a server with fixed answers."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import Result
from scripted import Answer, server
from typer.testing import CliRunner

from broadway.cli.app import app

AT = datetime(2026, 3, 1, 12, tzinfo=UTC).isoformat()
UNCHANGED: Answer = (304, {}, b"")
AWAY: Answer = (503, {}, b'{"detail": "the store is away"}')
PHASE = {"phase": "students", "state": "running", "jobs": 2, "queued_at": AT, "started_at": AT, "finished_at": None}

JOB = {
    "id": "j1",
    "phase": "students",
    "state": "finished",
    "outcome": "failed",
    "reason": "",
    "fault_phase": None,
    "seconds": 1.0,
    "queue_seconds": 0.5,
    "attempts": 1,
    "grader": "g1",
    "env": {},
    "student": "ada",
    "score": 1234567.5,
    "max_score": 2000000.0,
}


def run(state: str, *, success: bool | None = None, tag: str = '"1"', reason: str = "", **outcomes: int) -> Answer:
    body = {
        "id": "abcdef1",
        "course": "c",
        "assignment": "mp1",
        "state": state,
        "round": 1,
        "students": 2,
        "started_at": AT,
        "finished_at": None,
        "success": success,
        "trigger": None,
        "reason": reason,
        "phases": [{**PHASE, "outcomes": outcomes, "reason": ""}],
        "items": [JOB],  # as the answer with its jobs
        "next": None,
    }
    return 200, {"ETag": tag}, json.dumps(body).encode()


def typed(*arguments: str, answers: tuple[Answer, ...]) -> tuple[Result, list[str]]:
    """Run a command against a server with these answers; return its result, and the requests."""
    with server(*answers) as (address, seen):
        access = ("--server", address, "--token", "t", "-c", "c")
        return CliRunner().invoke(app, ["run", *arguments, *access]), seen


def test_a_run_is_followed_by_its_entity_tag_until_it_is_over() -> None:
    over = run("finished", success=True, succeeded=1, failed=1)
    done, seen = typed(
        "watch", "abcdef1", answers=(run("students"), run("students", tag='"2"', failed=1), UNCHANGED, over)
    )

    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == ["students: 1 of 2 jobs ended (1 failed)", "finished"]
    _, phases, _, job = [line.split("\t") for line in done.stdout.splitlines()]
    assert phases == ["students", "running", "2", "1 failed, 1 succeeded", ""]
    assert job[:6] == ["j1", "ada", "students", "failed", "1234567.5", "2000000"]
    path = "GET /api/v2/courses/c/runs/abcdef1"
    assert seen == [path, path, f'{path} "2"', f'{path} "2"', f"{path}/jobs?limit=20"]


def test_the_jobs_of_a_large_run_are_left_to_run_show() -> None:
    status, headers, body = run("finished", success=True)
    large = json.loads(body)
    large["phases"][0]["jobs"] = 21
    done, seen = typed("watch", "abcdef1", answers=((status, headers, json.dumps(large).encode()),))

    assert done.stderr.splitlines()[-1] == "`broadway run show abcdef1` prints the students with their scores"
    assert not any("/jobs" in each for each in seen)


ENDS: Mapping[str, tuple[Answer, int]] = {
    "failed tests": (run("finished", success=True, failed=2), 0),
    "an infrastructure error": (run("finished", success=True, failed=1, infrastructure_error=1), 1),
    "a failed run": (run("failed", success=False, reason="pre-processing: exit code 1"), 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_only_the_exit_status_that_was_asked_for_tells_errors_of_the_infrastructure(end: str) -> None:
    answer, code = ENDS[end]
    asked, _ = typed("watch", "abcdef1", "--exit-status", answers=(answer,))
    unasked, _ = typed("watch", "abcdef1", answers=(answer,))
    submitted, _ = typed("submit", "mp1", "--watch", "--exit-status", answers=(run("ready"), answer))

    assert (asked.exit_code, unasked.exit_code, submitted.exit_code) == (code, 0, code)


def test_the_end_of_the_time_has_an_exit_code_of_its_own() -> None:
    done, _ = typed("watch", "abcdef1", "--timeout", "0", "--exit-status", answers=(run("students"),))

    assert done.exit_code == 8
    assert done.stderr.splitlines()[-1] == "not over within 0 s; the run goes on"


def test_a_server_that_is_replaced_interrupts_nothing() -> None:
    answers = (run("students"), run("students"), AWAY, run("finished", success=True))
    done, _ = typed("watch", "abcdef1", answers=answers)

    assert done.exit_code == 0, done.output
    assert done.stderr.count("the store is away") == 1


@pytest.mark.parametrize(("status", "code"), [(401, 4), (404, 1)])
def test_a_refusal_ends_the_command(status: int, code: int) -> None:
    done, _ = typed("watch", "abc", answers=((status, {}, b'{"detail": "no"}'),))

    assert done.exit_code == code
    assert done.stderr.startswith("broadway: no")


ROSTER: Answer = (
    200,
    {},
    json.dumps(
        {"students": [{"student": each, "env": {}, "repository": None, "repository_id": None} for each in "ab"]}
    ).encode(),
)


def test_a_dry_run_prints_the_students_and_starts_nothing() -> None:
    whole, seen = typed("submit", "mp1", "--dry-run", answers=(ROSTER,))
    part, _ = typed("submit", "mp1", "--dry-run", "--student", "b", "--student", "b", answers=(ROSTER,))
    unknown, _ = typed("submit", "mp1", "--dry-run", "--student", "x", answers=(ROSTER,))

    assert [line.split("\t")[0] for line in whole.stdout.splitlines()] == ["student", "a", "b"]
    assert [line.split("\t")[0] for line in part.stdout.splitlines()] == ["student", "b"]
    assert (unknown.exit_code, "--student x: not in the roster of mp1" in unknown.stderr) == (1, True)
    assert seen == ["GET /api/v2/courses/c/assignments/mp1/roster"]


def test_the_id_of_a_new_run_is_all_of_stdout() -> None:
    done, seen = typed("submit", "mp1", "--watch", answers=(run("ready"), run("finished", success=True)))

    assert (done.exit_code, done.stdout) == (0, "abcdef1\n")
    assert seen[0] == "POST /api/v2/courses/c/assignments/mp1/runs"


def test_names_of_others_stay_on_their_line() -> None:
    item: dict[str, Any] = json.loads(run("finished")[2])
    item["trigger"] = {"hook": "h", "delivery": "d", "student": "a\nb\x1b[2J", "version": "v", "received_at": AT}
    done, _ = typed("list", "-a", "mp1", answers=((200, {}, json.dumps({"items": [item], "next": None}).encode()),))
    refused, _ = typed("list", answers=((400, {}, json.dumps({"detail": "a\nbroadway: all is well"}).encode()),))

    assert done.stdout.splitlines()[1].split("\t")[:4] == ["abcdef1", "mp1", r"a\nb\x1b[2J", "finished"]
    assert done.stdout.splitlines()[0].split("\t")[5:7] == ["score", "maximum"]
    assert refused.stderr.splitlines() == ["broadway: a", "  broadway: all is well"]

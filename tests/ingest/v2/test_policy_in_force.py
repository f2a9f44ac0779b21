"""Policies in force: uploads and pushes are taken or refused by the rules of their grade."""

import asyncio
import json
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pytest
from classes import Class, HandIn
from harness import Client
from policies import NOW, Assignment, at
from pushes import push, signature

from broadway.domain.job import Outcome
from broadway.mongo.store import Store

SECRET = "a-secret-of-this-hook"
LATE = {"due": at(hours=-3), "closes": at(hours=-1), "credit": [{"until": at(hours=-1), "percent": 50}]}


@pytest.fixture
async def mp1(client: Client, course: str) -> Assignment:
    return await Assignment.of_course(client, course)


async def submissions_of(mp1: Assignment) -> int:
    return len((await mp1.of("/submissions")).json()["items"])


async def test_an_upload_after_the_close_is_refused_in_words_and_an_extension_reopens(mp1: Assignment) -> None:
    await mp1.set_roster({"student": "ada"}, {"student": "bob"})
    await mp1.set_policy(zone="Europe/Berlin", deadline={**LATE, "grace_seconds": 60})

    refused = await mp1.hand_in("ada")

    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("the assignment closed at ")
    assert " CE" in refused.json()["detail"]  # CET or CEST
    assert await submissions_of(mp1) == 0
    assert (await mp1.standing())["can_hand_in"] is False

    assert (await mp1.extend(add_days=2, reason="ill")).status_code == 201
    assert (await mp1.hand_in("ada")).status_code == 201
    assert (await mp1.hand_in("bob")).status_code == 409
    standing = await mp1.standing()
    assert (standing["can_hand_in"], standing["is_extended"], len(standing["submissions"])) == (True, True, 1)


async def test_an_upload_before_the_assignment_opens_learns_when_it_does(mp1: Assignment) -> None:
    await mp1.set_policy(deadline={"opens": at(hours=2)})

    refused = await mp1.hand_in()

    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("the assignment opens at ")
    assert 0 < int(refused.headers["retry-after"]) <= 2 * 3600


async def test_a_repeated_upload_is_the_stored_one_also_after_the_close(mp1: Assignment) -> None:
    key = {"Idempotency-Key": "first"}
    made = await mp1.hand_in(headers=key)
    await mp1.set_policy(deadline=LATE, attempts={"total": 1})

    again = await mp1.hand_in(headers=key)

    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
    assert (await mp1.hand_in(headers={"Idempotency-Key": "second"})).status_code == 409


async def test_used_up_attempts_are_named_with_those_that_are_left(mp1: Assignment) -> None:
    await mp1.set_policy(attempts={"total": 3, "per_day": {"submissions": 2}})
    for _ in range(2):
        assert (await mp1.hand_in()).status_code == 201

    refused = await mp1.hand_in()

    detail = refused.json()["detail"]
    assert detail.startswith(
        "2 of 2 submissions of this day and 2 of 3 in total are used; the next one is possible from "
    )
    assert detail.endswith(" UTC")
    attempts = (await mp1.standing())["attempts"]
    assert (attempts["used"], attempts["used_today"], attempts["left"]) == (2, 2, 0)
    assert attempts["next"]["text"] in detail


@pytest.mark.parametrize("past_limit", ["practice", "penalty"])
async def test_a_submission_beyond_the_limit_is_taken_if_the_policy_says_so(mp1: Assignment, past_limit: str) -> None:
    penalty = {"penalty_percent": 10} if past_limit == "penalty" else {}
    await mp1.set_policy(attempts={"total": 1, "past_limit": past_limit, **penalty})

    assert [(await mp1.hand_in()).status_code for _ in range(2)] == [201, 201]
    message = (await mp1.standing())["message"]
    assert ("for practice" in message) is (past_limit == "practice")


async def test_two_uploads_at_once_at_the_last_attempt_are_never_both_refused(mp1: Assignment) -> None:
    await mp1.set_policy(attempts={"total": 1})

    answers = await asyncio.gather(mp1.hand_in(), mp1.hand_in())

    assert sorted(each.status_code for each in answers) in ([201, 201], [201, 409])
    assert (await mp1.hand_in()).status_code == 409
    assert (await mp1.standing())["attempts"]["used"] == 1  # of two, the grade lets one count


async def test_a_cancelled_submission_gives_its_attempt_back(mp1: Assignment) -> None:
    await mp1.set_policy(attempts={"total": 1})
    made = (await mp1.hand_in()).json()
    assert (await mp1.hand_in()).status_code == 409

    cancelled = await mp1.ask(f"/runs/{made['run_id']}/cancel", "POST", json={})

    assert cancelled.is_success, cancelled.text
    assert (await mp1.standing())["attempts"]["used"] == 0
    assert (await mp1.hand_in()).status_code == 201


async def test_members_of_a_group_hand_in_for_it_with_their_own_tokens(mp1: Assignment) -> None:
    await mp1.set_roster({"student": "g7", "members": ["ada", "bob"]}, {"student": "eve"})
    await mp1.set_policy(attempts={"total": 1}, groups={"max": 2})
    for student in ("ada", "bob", "eve"):
        await mp1.give_token(student)

    made = (await mp1.hand_in(by="ada")).json()

    assert made["student"] == "g7"
    assert (await mp1.hand_in(by="bob")).status_code == 409  # the group's attempts
    for student, status in (("ada", 200), ("bob", 200), ("eve", 404)):
        assert (await mp1.ask(f"/submissions/{made['id']}", by=student)).status_code == status
        listed = (await mp1.of("/submissions", by=student)).json()["items"]
        assert len(listed) == (0 if student == "eve" else 1)
    assert [(await mp1.standing(each, by=each))["group"] for each in ("ada", "eve")] == ["g7", None]
    assert (await mp1.ask("/students/bob/assignments", by="ada")).status_code == 403


async def test_a_group_hands_in_while_one_member_may(mp1: Assignment) -> None:
    await mp1.set_roster({"student": "g7", "members": ["ada", "bob"]})
    await mp1.set_policy(deadline=LATE)
    assert (await mp1.hand_in("g7")).status_code == 409

    await mp1.extend(name="bob", add_days=1)

    assert (await mp1.hand_in("ada")).status_code == 201
    assert [(await mp1.standing(each))["can_hand_in"] for each in ("ada", "bob")] == [False, True]


async def test_a_late_push_is_stored_and_decided_again_after_an_extension(mp1: Assignment) -> None:
    await mp1.set_roster({"student": "ada", "repository": "cs/ada"})
    await mp1.set_policy(deadline=LATE)
    await mp1.ask("/hooks/git", "PUT", json={"assignment": "mp1", "secrets": [SECRET]})

    pushed = await pushed_by(mp1, "ada")

    assert pushed["state"] == "refused"
    assert pushed["reason"].startswith("the assignment closed at ")
    await mp1.extend(add_days=1)
    again = await mp1.ask(f"/hooks/git/deliveries/{pushed['id']}/redeliver", "POST", json={})
    assert again.json()["state"] == "accepted"
    found = (await mp1.standing())["submissions"]
    assert [(each["is_upload"], each["version"], each["state"]) for each in found] == [
        (False, pushed["version"], "accepted")
    ]


async def test_an_upload_that_was_taken_is_graded_after_the_close_too(mp1: Assignment) -> None:
    await mp1.done("/settings", json={"quota": {"submissions": 1, "seconds": 3600}})
    key = {"Idempotency-Key": "second"}
    limited = [await mp1.hand_in(headers=each) for each in ({}, key)][1].json()
    assert limited["state"] == "limited"

    await mp1.set_policy(deadline=LATE)
    again = (await mp1.hand_in(headers=key)).json()

    assert (again["id"], again["state"]) == (limited["id"], "accepted")


async def test_a_front_end_names_a_member_or_the_group(mp1: Assignment) -> None:
    await mp1.set_roster({"student": "g7", "members": ["ada", "bob"]})
    await mp1.ask("/hooks/git", "PUT", json={"assignment": "mp1", "format": "json", "secrets": [SECRET]})

    for number, name in enumerate(["ada", "g7", "eve"]):
        await delivered(mp1, {"student": name, "idempotency_key": f"k{number}"})

    found = (await mp1.ask("/hooks/git/deliveries")).json()["items"]
    assert [(each["state"], each["student"]) for each in reversed(found)] == [
        ("accepted", "g7"),
        ("accepted", "g7"),
        ("unmatched", None),
    ]


async def test_pushes_use_the_attempts_of_uploads_too(mp1: Assignment) -> None:
    await mp1.set_roster({"student": "ada", "repository": "cs/ada"})
    await mp1.set_policy(attempts={"total": 2})
    await mp1.ask("/hooks/git", "PUT", json={"assignment": "mp1", "secrets": [SECRET]})

    first, _, third = await pushed_by(mp1, "ada"), await mp1.hand_in(), await pushed_by(mp1, "ada")

    assert (first["state"], third["state"]) == ("accepted", "refused")
    assert third["reason"] == "2 of 2 submissions are used; no attempt is left"
    assert (await mp1.hand_in()).status_code == 409


async def test_a_member_out_of_late_days_does_not_get_the_groups_late_submission(mp1: Assignment, store: Store) -> None:
    days = {"late_days": {"per_assignment": 2, "per_course": 2}}
    mp0 = Class(store, mp1.course, "mp0")
    await mp0.prepare(["ada", "bob"], {"points": 10, "policy": {"deadline": {"due": at(days=-20)}, **days}})
    late, early = HandIn("ada", NOW - timedelta(days=18, hours=1)), HandIn("bob", NOW - timedelta(days=21))
    await mp0.hand_in(late, early, run=token_hex(12))
    await mp1.set_roster({"student": "g7", "members": ["ada", "bob"]})
    await mp1.set_policy(deadline={"due": at(hours=-1)}, **days)
    assert (await mp1.hand_in("bob")).status_code == 201

    ada, bob = [await mp1.standing(each) for each in ("ada", "bob")]

    assert [each["late_days"]["left"] for each in (ada, bob)] == [0, 2]
    listed = (await mp1.ask("/students/ada/assignments")).json()["items"]
    assert [(each["assignment"], each["late_days"]["left"]) for each in listed] == [("mp0", 2), ("mp1", 0)]
    assert [each["message"] for each in (ada, bob)] == [
        "it is graded, and does not count: it needs more late days than are left",
        "",
    ]
    grades = {each["student"]: each["status"] for each in (await mp1.of("/grades?version=draft")).json()["items"]}
    assert grades == {"ada": "not_counted", "bob": "waiting"}


async def test_uploads_that_runs_for_the_roster_grade_use_attempts_by_their_results(
    mp1: Assignment, store: Store
) -> None:
    graded = Class(store, mp1.course)
    policy = {"attempts": {"total": 2}}
    await graded.prepare(["ada", "bob"], {"points": 10, "starts": "with_roster", "policy": policy})
    for student, outcome in (("ada", Outcome.INFRASTRUCTURE_ERROR), ("bob", Outcome.FAILED)):
        for number in (1, 2):
            handed_in = HandIn(student, NOW - timedelta(hours=number), outcome, None, number)
            await graded.hand_in(handed_in, run=token_hex(12))

    assert [(await mp1.hand_in(each)).status_code for each in ("ada", "bob")] == [201, 409]
    assert [(await mp1.standing(each))["attempts"]["used"] for each in ("ada", "bob")] == [1, 2]


async def pushed_by(mp1: Assignment, student: str) -> dict[str, Any]:
    """Return the delivery of a student's push."""
    await delivered(mp1, push(student))
    found: list[dict[str, Any]] = (await mp1.ask("/hooks/git/deliveries?limit=1")).json()["items"]
    return found[0]


async def delivered(mp1: Assignment, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    headers = {
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": token_hex(16),
        "X-Hub-Signature-256": signature(body, SECRET),
    }
    await mp1.ask("/hooks/git", "POST", content=body, headers=headers)

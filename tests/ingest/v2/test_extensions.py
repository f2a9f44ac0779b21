"""Extensions, late days and choices over HTTP: added, previewed, withdrawn; rights, refusals and audit records."""

import asyncio
import json
from typing import Any

import pytest
from harness import Client, stage
from policies import Assignment, at

DUE = {"due": at(hours=2)}
CLOSED = {"due": at(hours=-2), "credit": [{"until": at(hours=-1), "percent": 50}]}
CLAIMED = {"per_assignment": 2, "per_course": 3, "spend": "claimed"}


@pytest.fixture
async def mp1(client: Client, course: str) -> Assignment:
    made = await Assignment.of_course(client, course)
    await made.set_roster(
        {"student": "ada", "labels": ["evening"]},
        {"student": "g7", "members": ["bob", "cyd"], "labels": ["evening"]},
        {"student": "eve"},
    )
    await made.set_policy(deadline=DUE)
    return made


async def listed(mp1: Assignment, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await mp1.of(f"/extensions{query}")).json()["items"]
    return items


async def test_an_extension_is_stored_once_and_a_later_one_replaces_it(mp1: Assignment) -> None:
    first = await mp1.extend(add_days=1, reason="ill")
    again = await mp1.extend(add_days=1, reason="ill")
    later = await mp1.extend(add_days=2, reason="still ill")

    assert [first.status_code, again.status_code, later.status_code] == [201, 200, 201]
    assert first.json()["id"] == again.json()["id"]
    assert [(each["order"]["add_days"], each["is_in_force"]) for each in await listed(mp1)] == [(1, False), (2, True)]
    assert [each["id"] for each in await listed(mp1, "?in_force=true")] == [later.json()["id"]]


async def test_extensions_that_are_added_together_are_all_stored(mp1: Assignment) -> None:
    answers = await asyncio.gather(*(mp1.extend(name=name, add_days=1) for name in ("ada", "bob", "cyd", "eve")))

    assert [each.status_code for each in answers] == [201] * 4
    assert {each["order"]["name"] for each in await listed(mp1, "?in_force=true")} == {"ada", "bob", "cyd", "eve"}
    assert [each["id"] for each in await listed(mp1)] == [f"{number:09}" for number in range(1, 5)]


async def test_a_withdrawn_extension_gives_the_own_times_back(mp1: Assignment) -> None:
    await mp1.set_policy(deadline=CLOSED)
    await mp1.extend(add_days=1)
    assert (await mp1.standing())["can_hand_in"] is True

    withdrawn = await mp1.of("/extensions?target=student&name=ada&reason=wrong+student", "DELETE")

    assert withdrawn.status_code == 200
    assert (await mp1.standing())["can_hand_in"] is False
    assert (await mp1.of("/extensions?target=student&name=ada", "DELETE")).status_code == 404
    record, *_ = (await mp1.ask("/audit?operation=extensions_withdraw")).json()["items"]
    assert json.loads(record["before"])["order"]["add_days"] == 1
    assert json.loads(record["after"])["order"]["reason"] == "wrong student"


@pytest.mark.parametrize(
    ("order", "status", "said"),
    [
        ({"name": "zed", "add_days": 1}, 422, "name: the roster of mp1 has no student zed"),
        ({"name": "g7", "add_days": 1}, 422, "the roster of mp1 has no student g7"),
        ({"target": "group", "name": "ada", "add_days": 1}, 422, "the roster of mp1 has no group ada"),
        ({"target": "label", "name": "night", "add_days": 1}, 422, "the roster of mp1 has no label night"),
        ({}, 400, "due: expected a later time"),
        ({"due": "tomorrow"}, 400, "expected a date and a time"),
        ({"add_days": -1}, 400, "add_days"),
    ],
)
async def test_an_extension_that_is_for_nobody_or_gives_nothing_is_refused(
    mp1: Assignment, order: dict[str, Any], status: int, said: str
) -> None:
    answer = await mp1.extend(**order)

    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert await listed(mp1) == []


async def test_an_extension_without_effect_is_stored_with_a_warning(mp1: Assignment) -> None:
    answer = await mp1.extend(due=at(hours=1))

    assert (answer.status_code, answer.json()["warning"]) == (201, "its times are not later than the assignment's")


async def test_a_preview_shows_the_times_of_all_its_students_and_stores_nothing(mp1: Assignment) -> None:
    preview = await mp1.done("/extensions/preview?target=label&name=evening&add_minutes=30", "GET")

    assert [each["student"] for each in preview["students"]] == ["ada", "bob", "cyd"]
    for each in preview["students"]:
        assert each["before"]["due"]["at"] == at(hours=2)
        assert each["after"]["due"]["at"] == each["after"]["closes"]["at"] == at(hours=2, minutes=30)
    assert (preview["count"], preview["warning"]) == (3, "")
    assert await listed(mp1) == []


async def test_an_extension_of_a_label_holds_for_its_members(mp1: Assignment) -> None:
    await mp1.set_policy(deadline=CLOSED)
    await mp1.extend("label", "evening", add_days=1)

    assert [(await mp1.standing(each))["is_extended"] for each in ("ada", "bob", "eve")] == [True, True, False]


async def test_courses_do_not_see_each_others_extensions(client: Client, mp1: Assignment, other_course: str) -> None:
    other = await Assignment.of_course(client, other_course)
    await mp1.extend(add_days=1)

    assert await listed(other) == []


async def test_students_claim_late_days_and_staff_correct_them(mp1: Assignment) -> None:
    await mp1.set_policy(deadline=DUE, late_days=CLAIMED)
    await mp1.give_token("ada")

    standing = await mp1.done("/late-days", json={"days": 2}, by="ada")

    assert standing["late_days"] | {"spend": ""} == {
        "left": 3, "claimed": 2, "per_assignment": 2, "per_course": 3, "spend": "",
    }  # fmt: skip
    assert (await mp1.done("/late-days", json={"days": 1}, by="ada"))["late_days"]["claimed"] == 1
    too_many = await mp1.of("/late-days", "PUT", json={"days": 3}, by="ada")
    assert (too_many.status_code, too_many.json()["detail"]) == (422, "days: 2 may be used for mp1 and 3 are left")
    assert (await mp1.of("/late-days?student=eve", "PUT", json={"days": 1}, by="ada")).status_code == 403

    await mp1.set_policy(deadline={"due": at(hours=-1)}, late_days=CLAIMED)
    lowered = await mp1.of("/late-days", "PUT", json={"days": 0}, by="ada")
    assert lowered.json()["detail"] == "days: a claim cannot be lowered after the due time; ask the course staff"
    assert (await mp1.done("/late-days?student=ada", json={"days": 0}))["late_days"]["claimed"] == 0
    await mp1.set_policy(deadline={"due": at(days=-9)}, late_days=CLAIMED)
    assert "mp1 closed at " in (await mp1.of("/late-days", "PUT", json={"days": 1}, by="ada")).json()["detail"]


@pytest.mark.parametrize(
    ("days", "said"),
    [(None, "mp1 has no late days"), (CLAIMED | {"spend": "auto"}, "mp1 uses late days by itself, without a claim")],
    ids=["none", "auto"],
)
async def test_late_days_cannot_be_claimed_without_need(mp1: Assignment, days: Any, said: str) -> None:
    await mp1.set_policy(deadline=DUE, **({"late_days": days} if days else {}))

    answer = await mp1.of("/late-days?student=ada", "PUT", json={"days": 1})

    assert (answer.status_code, answer.json()["detail"]) == (422, said)


async def test_a_student_chooses_a_submission_until_the_close_and_staff_after_it(mp1: Assignment) -> None:
    await mp1.set_policy(deadline=DUE, counts="chosen")
    for student in ("bob", "eve"):
        await mp1.give_token(student)
    first, foreign = (await mp1.hand_in(by="bob")).json(), (await mp1.hand_in(by="eve")).json()

    standing = await mp1.done("/choice", json={"submission": first["id"]}, by="bob")

    assert standing["chosen"] == first["id"]
    assert [each["is_chosen"] for each in standing["submissions"]] == [True]
    assert (await mp1.standing("cyd"))["chosen"] is None  # each member chooses
    other = await mp1.of("/choice", "PUT", json={"submission": foreign["id"]}, by="bob")
    assert (other.status_code, "bob has no submission" in other.json()["detail"]) == (422, True)
    of_group = await mp1.of("/choice?student=g7", "PUT", json={"submission": None})
    assert "g7 is a group" in of_group.json()["detail"]

    await mp1.set_policy(deadline=CLOSED, counts="chosen")
    closed = await mp1.of("/choice", "PUT", json={"submission": None}, by="bob")
    assert (closed.status_code, "mp1 closed at " in closed.json()["detail"]) == (422, True)
    assert (await mp1.done("/choice?student=bob", json={"submission": None}))["chosen"] is None


async def test_nothing_is_chosen_where_the_latest_counts(mp1: Assignment) -> None:
    answer = await mp1.of("/choice?student=ada", "PUT", json={"submission": None})

    assert answer.json()["detail"] == "mp1 counts the submission that is latest, not one that is chosen"


async def test_a_student_lists_the_own_assignments_only(client: Client, mp1: Assignment) -> None:
    for name in ("mp0", "mp2"):
        await client.register(mp1.course, name, students=[stage()])
    await mp1.ask("/assignments/mp2/roster", "PUT", json={"students": [{"student": "eve"}]})
    await mp1.give_token("ada")

    page = (await mp1.ask("/students/ada/assignments?limit=1", by="ada")).json()
    rest = (await mp1.ask(f"/students/ada/assignments?after={page['next']}", by="ada")).json()

    assert [each["assignment"] for each in page["items"] + rest["items"]] == ["mp0", "mp1"]
    assert rest["next"] is None
    assert (await mp1.ask("/students/ada/assignments/mp2", by="ada")).status_code == 404
    assert (await mp1.ask("/students/eve/assignments/mp2", by="ada")).status_code == 403


async def test_a_group_beyond_the_policy_is_refused_by_roster_and_settings(mp1: Assignment) -> None:
    large = {"student": "g1", "members": ["ada", "bob", "eve"]}
    await mp1.set_policy(groups={"max": 2})

    roster = await mp1.of("/roster", "PUT", json={"students": [large]})
    await mp1.set_policy(groups={"max": 3})
    await mp1.set_roster(large)
    settings = await mp1.of("/settings", "PUT", json={"policy": {"groups": {"max": 2}}})

    said = "students.0.members: g1 has 3 members; the assignment's policy allows 2 (groups.max)"
    assert [(each.status_code, each.json()["detail"]) for each in (roster, settings)] == [(400, said)] * 2

"""Reports of jobs: recorded with every attempt, and read by staff and by their students only."""

import json
from secrets import token_hex
from typing import Any

import pytest
from bson import ObjectId
from graded import CONTENT, REPORT, REPORTED, World, results
from harness import Client
from policies import at
from pymongo.asynchronous.database import AsyncDatabase

from broadway.connections import Connections
from broadway.domain.job import FaultPhase, Outcome
from broadway.domain.originals import OriginalFile, Reported
from broadway.domain.report import Report, Visibility


@pytest.fixture
async def world(client: Client, course: str, opened: Connections) -> World:
    world = World(client, course, opened)
    await world.begin()
    return world


async def test_staff_see_all_of_a_report_and_its_file(world: World) -> None:
    job = world.jobs["ada"]
    assert (await world.ask(f"jobs/{job}/report")).status_code == 404
    attempt = await world.finish("ada", results(REPORTED))

    found = await world.report("ada")

    assert (found["attempt"], found["stage"], found["view"], found["shows_log"]) == (attempt, 0, "staff", True)
    assert Report.model_validate(found["report"]) == REPORT
    assert found["report"]["score"] == "1.5"
    (file,) = found["files"]
    assert (file["path"], file["size"]) == ("out/results.json", len(CONTENT))
    answer = await world.ask(f"jobs/{job}/report/files/{file['sha256']}")
    assert (answer.content, answer.headers["content-disposition"]) == (CONTENT, "attachment")
    assert (await world.ask(f"jobs/{job}/report/files/{'0' * 64}")).status_code == 404
    assert (await world.ask(f"jobs/{world.jobs['bob']}/report/files/{file['sha256']}")).status_code == 404
    shown = (await world.ask(f"jobs/{job}")).json()
    assert (shown["score"], shown["max_score"], shown["results"]) == (1.5, 3.0, None)


async def test_a_student_sees_the_own_report_without_what_is_hidden(world: World) -> None:
    await world.finish("ada", results(REPORTED))

    found = await world.report("ada", token=world.tokens["ada"])

    assert (found["view"], found["files"], found["shows_log"]) == ("student", [], True)
    assert [test["key"] for test in found["report"]["tests"]] == ["a"]
    assert (found["report"]["score"], found["report"]["max"]) == (None, None)
    assert "secret-name" not in json.dumps(found)
    assert found == await world.report("ada", "?view=student")  # as the staff see what a student sees
    asked = await world.report("ada", "?view=staff", token=world.tokens["ada"])
    assert asked == found
    for path in (f"jobs/{world.jobs['bob']}/report", f"jobs/{token_hex(12)}/report"):
        assert (await world.ask(path, token=world.tokens["ada"])).status_code == 404


async def test_lists_have_points_for_staff(world: World) -> None:
    await world.finish("ada", results(REPORTED))
    await world.finish("bob", results(REPORTED), outcome=Outcome.INFRASTRUCTURE_ERROR, fault_phase=FaultPhase.WAIT)

    async def points(token: str = "") -> list[tuple[str, float | None, float | None]]:
        jobs = (await world.ask(f"runs/{world.run}/jobs", token=token)).json()["items"]
        return [(job["student"], job["score"], job["max_score"]) for job in jobs]

    assert await points() == [("ada", 1.5, 3), ("bob", None, None)]
    assert await points(f"query-{world.course[2:]}") == [("ada", None, None), ("bob", None, None)]
    assert (await world.ask("assignments/mp1/settings", "PUT", json={"points": 4})).status_code == 200
    assert await points() == [("ada", 1.5, 4), ("bob", None, None)]
    shown = (await world.ask(f"jobs/{world.jobs['ada']}")).json()
    assert (shown["score"], shown["max_score"]) == (1.5, 4)


@pytest.mark.parametrize("hidden", [True, False], ids=["a hidden test", "no hidden test"])
async def test_the_points_of_a_submission_are_in_its_view_and_in_lists(world: World, *, hidden: bool) -> None:
    query, files = "student=ada", [("files", ("a.py", b"1"))]
    made = (await world.ask(f"assignments/mp1/submissions?{query}", "POST", files=files)).json()
    (job,) = (await world.ask(f"runs/{made['run_id']}/jobs")).json()["items"]
    world.jobs["ada"] = job["id"]
    report = REPORT if hidden else REPORT.model_copy(update={"tests": REPORT.tests[:1]})
    await world.finish("ada", results(Reported(report=report)))

    async def seen(token: str) -> tuple[float | None, float | None]:
        found = (await world.ask(f"submissions/{made['id']}", token=token)).json()["job"]
        return found["score"], found["max_score"]

    assert await seen("") == (1.5, 3)
    assert await seen(world.tokens["ada"]) == ((None, None) if hidden else (1.5, 3))
    runs = (await world.ask("runs")).json()["items"]
    assert [(run["id"], run["score"], run["max_score"]) for run in runs] == [
        (made["run_id"], 1.5, 3),
        (world.run, None, None),
    ]


async def test_a_job_of_an_earlier_version_has_its_scores_in_its_own_view_only(
    world: World, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await world.finish("ada", results(REPORTED))
    removed = await database["job_outcome"].update_one(
        {"grading_job_id": world.jobs["ada"]}, {"$unset": {"attempts.0.marks": 1}}
    )
    assert removed.modified_count == 1

    shown = (await world.ask(f"jobs/{world.jobs['ada']}")).json()
    listed = (await world.ask(f"runs/{world.run}/jobs")).json()["items"][0]

    assert (shown["score"], shown["max_score"], listed["score"], listed["max_score"]) == (1.5, 3, None, None)


async def test_the_report_of_every_attempt_is_kept(world: World) -> None:
    first = await world.finish("ada", results(REPORTED))
    assert (await world.ask(f"jobs/{world.jobs['ada']}/rerun", "POST", json={})).status_code == 200
    better = REPORT.model_copy(update={"score": REPORT.max})
    second = await world.finish("ada", results(Reported(report=better)))

    assert (await world.report("ada"))["attempt"] == second
    assert (await world.report("ada", f"?attempt={second}"))["report"]["score"] == "3"
    assert (await world.report("ada", f"?attempt={first}"))["report"]["score"] == "1.5"
    assert (await world.ask(f"jobs/{world.jobs['ada']}/report?attempt=other")).status_code == 404


async def test_an_error_of_the_autograder_names_its_reason_to_staff_and_records_no_zero(world: World) -> None:
    broken = Reported(problem="results.json: should be JSON", files=[OriginalFile.of("results.json", b"{")])
    fault = {"outcome": Outcome.INFRASTRUCTURE_ERROR, "fault_phase": FaultPhase.COLLECT, "reason": "results: no JSON"}
    await world.finish("ada", results(broken), **fault)

    found = await world.report("ada")
    assert (found["report"], found["problem"], len(found["files"])) == (None, "results.json: should be JSON", 1)
    seen = await world.report("ada", token=world.tokens["ada"])
    assert (seen["report"], seen["files"], "JSON" in seen["problem"]) == (None, [], False)
    shown = (await world.ask(f"jobs/{world.jobs['ada']}")).json()
    assert (shown["outcome"], shown["score"], shown["fault_phase"]) == ("infrastructure_error", None, "collect")


async def test_scores_of_earlier_versions_are_shown_as_reports(world: World) -> None:
    document = json.dumps({"tests": [{"name": "old", "score": 2, "max_score": 5, "visibility": "hidden"}]})
    scores = {"score": 2.0, "max_score": 5.0, "document": document}
    await world.finish("ada", [{"data": {"ExitCode": 0}, "success": True, "scores": scores}])

    found = await world.report("ada")
    assert (found["report"]["score"], found["report"]["tests"][0]["name"]["body"]) == ("2", "old")
    assert (await world.report("ada", token=world.tokens["ada"]))["report"]["tests"] == []


async def test_a_report_that_a_recorder_of_an_earlier_version_stored_is_read(
    world: World, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await world.finish("ada", [])
    await database["job_outcome"].delete_one({"grading_job_id": world.jobs["ada"]})
    await database["grading_job"].update_one(
        {"_id": ObjectId(world.jobs["ada"])}, {"$set": {"results": results(REPORTED)}}
    )
    found = await world.report("ada")
    assert (Report.model_validate(found["report"]), len(found["files"])) == (REPORT, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"report": {"source": "xml"}},
        {"report": None},
        {"files": [{**OriginalFile.of("r", b"x").model_dump(), "sha256": "0" * 64}]},
        {"files": "many"},
    ],
)
async def test_a_report_that_no_grader_of_ours_sends_is_not_stored(world: World, change: dict[str, Any]) -> None:
    entry = results(REPORTED)[0]
    await world.finish("ada", [{**entry, "report": {**entry["report"], **change}}])

    assert (await world.ask(f"jobs/{world.jobs['ada']}")).json()["outcome"] == "succeeded"
    found = await world.report("ada")
    assert found["report"] is None or found["report"]["source"] == "gradescope"
    assert found["files"] == []


LATER = REPORT.model_copy(
    update={
        "tests": [
            each.model_copy(update={"visibility": Visibility(name)})
            for each, name in zip(REPORT.tests, ("after_due", "after_published"), strict=True)
        ]
    }
)


async def seen_by(world: World, student: str) -> list[str]:
    """Return the names of the tests that a student sees; staff see them with the student's view, too."""
    own = await world.report(student, token=world.tokens[student])
    names = [test["name"]["body"] for test in own["report"]["tests"]]
    assert [test["name"]["body"] for test in (await world.report(student, "?view=student"))["report"]["tests"]] == names
    return names


async def test_tests_after_the_due_time_appear_at_the_close_of_that_student(world: World) -> None:
    for name in ("ada", "bob"):
        await world.finish(name, results(Reported(report=LATER)))
    assert await seen_by(world, "ada") == []  # without a due time nothing is after it
    policy = {
        "deadline": {"due": at(hours=-2), "closes": at(hours=-1), "credit": [{"until": at(hours=-1), "percent": 50}]}
    }
    await world.ask("assignments/mp1/settings", "PUT", json={"policy": policy})
    order = {"target": "student", "name": "bob", "add_days": 1}
    assert (await world.ask("assignments/mp1/extensions", "POST", json=order)).status_code == 201

    assert [await seen_by(world, name) for name in ("ada", "bob")] == [["a"], []]


async def test_tests_of_a_group_appear_when_no_member_can_hand_in_any_more(world: World) -> None:
    await world.finish("ada", results(Reported(report=LATER)))
    group = {"student": "ada", "members": ["ada", "bob"]}
    await world.ask("assignments/mp1/roster", "PUT", json={"students": [group]})
    await world.ask("assignments/mp1/settings", "PUT", json={"policy": {"deadline": {"due": at(hours=-1)}}})
    order = {"target": "student", "name": "bob", "add_days": 1}
    await world.ask("assignments/mp1/extensions", "POST", json=order)
    assert await seen_by(world, "ada") == []

    await world.ask("assignments/mp1/extensions?target=student&name=bob", "DELETE")
    assert await seen_by(world, "ada") == ["a"]
    assert len((await world.report("ada", token=world.tokens["bob"]))["report"]["tests"]) == 1


async def test_tests_after_the_publication_appear_with_it_and_vanish_with_its_undo(world: World) -> None:
    await world.finish("ada", results(Reported(report=LATER)))

    version = (await world.ask("assignments/mp1/grades/publish", "POST", json={"based_on": 0})).json()["number"]
    assert await seen_by(world, "ada") == ["secret-name"]

    await world.ask("assignments/mp1/grades/undo", "POST", json={"based_on": version, "to": 0})
    assert await seen_by(world, "ada") == []

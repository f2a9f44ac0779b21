"""A regrade of a class whose tests had a mistake, from its start to its publication, with real services."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from harness import IS_WHOLE, Cluster, Command, broadway, stage, until
from pymongo import AsyncMongoClient

from broadway.domain import regrade as regrades
from broadway.ingest.commands import regrade_steps

COURSE = "/api/v2/courses/cs241"
STAFF = {"Authorization": "Bearer staff-241"}
CLASS = 200 if IS_WHOLE else 5
CHANGED = range(3, CLASS, 4) if IS_WHOLE else range(1, CLASS, 2)  # students whose program the corrected test accepts
BOOK = ("grade_entries", "grade_book", "grade_book_published")
SETTINGS = {"points": 2, "policy": {"deadline": {"due": "2030-01-01T00:00Z"}}}
NOTE = {"note": "The test of overflows was wrong."}


@pytest.fixture(scope="module", autouse=True)
def _soon() -> Iterator[None]:
    """Let the API look after regrades every moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regrades, "CLEAN_AFTER", timedelta(seconds=0.2))
        patch.setattr(regrade_steps, "SWEEP_INTERVAL", 0.2)
        yield


@pytest.fixture
def cluster(own_cluster: Cluster) -> Cluster:
    """A cluster without the files of another test, which have the same contents."""
    return own_cluster


@dataclass
class Class:
    """A class that has handed in, and whose grades are published; its graders still have the wrong test."""

    cluster: Cluster
    jobs: dict[str, str]

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        return await self.cluster.client.http.request(method, f"{COURSE}/{path}", json=body, headers=STAFF, **more)

    async def get(self, path: str) -> Any:
        answer = await self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = await self.ask("POST", path, body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def correct(self) -> None:
        """Register the config with the corrected test."""
        await self.cluster.client.register("cs241", "mp1", students=[_tests("corrected")])

    async def start(self, **order: Any) -> dict[str, Any]:
        """Start a regrade, and wait until it is ready."""
        made = await self.post("assignments/mp1/regrades", order, status=201)
        return await self.ready(made["id"])

    async def ready(self, regrade: str) -> dict[str, Any]:
        async def found() -> Any:
            view = await self.get(f"regrades/{regrade}")
            return view if view["state"] not in ("draft", "running") else None

        view: dict[str, Any] = await until(found, within=300)
        return view

    async def rows(self, regrade: str, **query: Any) -> dict[str, dict[str, Any]]:
        """Return all rows by student, in their order."""
        found: dict[str, dict[str, Any]] = {}
        while True:
            answer = await self.ask("GET", f"regrades/{regrade}/rows", params={"limit": 3, **query})
            assert answer.status_code == 200, answer.text
            found |= {row["student"]: row for row in answer.json()["items"]}
            if answer.json()["next"] is None:
                return found
            query["after"] = answer.json()["next"]

    async def points(self, version: str = "published") -> dict[str, str]:
        """Return the points of the class."""
        page = await self.get(f"assignments/mp1/grades?version={version}&limit=500")
        return {each["student"]: each["points"] for each in page["items"]}

    async def book(self) -> str:
        """Return a digest of all that is stored of grade books, but for the time of an announcement."""
        async with AsyncMongoClient(self.cluster.place.mongodb_dsn) as mongo:
            main = mongo[self.cluster.settings.mongodb.primary]
            found = {name: await main[name].find({}, {"announce_at": 0}).sort("_id").to_list() for name in BOOK}
        return hashlib.sha256(repr(found).encode()).hexdigest()

    async def count(self, collection: str) -> int:
        async with AsyncMongoClient(self.cluster.place.mongodb_dsn) as mongo:
            return await mongo[self.cluster.settings.mongodb.primary][collection].count_documents({})


def _student(number: int) -> str:
    return f"s{number:03}"


def _tests(version: str) -> dict[str, Any]:
    """Return a stage whose tests are in a file of the submission: another one for the wrong test."""
    return stage("print", version, results={"format": "tap", "path": f"submission/{version}"})


def _scores(overflow: int) -> bytes:
    return f"1..2\nok 1 - empty\n{'' if overflow else 'not '}ok 2 - overflow\n".encode()


@pytest.fixture
async def students(cluster: Cluster) -> Class:
    cluster.graders.attach("host1", f"http://127.0.0.1:{cluster.settings.bind_port}", slots=2)
    found = Class(cluster, {})
    await cluster.client.register("cs241", "mp1", students=[_tests("wrong")])
    roster = [{"student": _student(number), "env": {}} for number in range(CLASS)]
    for path, body in (("settings", SETTINGS), ("roster", {"students": roster})):
        answer = await found.ask("PUT", f"assignments/mp1/{path}", body)
        assert answer.status_code == 200, answer.text
    for number in range(CLASS):
        await _hand_in(found, number)
    await until(lambda: _all_graded(found), within=300)
    assert (await found.post("assignments/mp1/grades/publish", {"based_on": 0}))["number"] == 1
    return found


async def _hand_in(found: Class, number: int, *, files: dict[str, bytes] | None = None) -> str:
    given = files or {"wrong": _scores(0), "corrected": _scores(int(number in CHANGED))}
    answer = await found.cluster.client.http.post(
        f"{COURSE}/assignments/mp1/submissions",
        params={"student": _student(number)},
        files=[("files", each) for each in given.items()],
        headers=STAFF,
    )
    assert answer.status_code == 201, answer.text
    identity: str = answer.json()["id"]
    return identity


async def _all_graded(found: Class) -> bool:
    points = await found.points("draft")
    return len(points) == CLASS and all(points.values())


@pytest.mark.timeout(600)
async def test_a_class_is_regraded_published_taken_back_and_published_again(students: Class) -> None:
    before, book = await students.points(), await students.book()
    runs = (await students.get("runs?limit=500"))["items"]
    await students.correct()

    regrade = await students.start(control_percent=5, reason="issue 7")

    changed = {_student(number) for number in CHANGED}
    assert regrade["counts"] == {"up": len(changed), "same": CLASS - len(changed)}
    assert [each["text"] for each in regrade["groups"]] == [f"{len(changed)} students: overflow failed → passed"]
    assert (regrade["jobs"], regrade["done"]) == (CLASS + max(5, -(-CLASS // 20)),) * 2
    assert (regrade["control"], regrade["unstable"]) == (max(5, -(-CLASS // 20)), [])
    assert regrade["old_configs"] != regrade["new_configs"] == [regrade["config"]]
    rows = await students.rows(regrade["id"])
    assert list(rows) == [*sorted(changed), *sorted(set(before) - changed)]
    row = rows[min(changed)]
    assert [(flip["test"], flip["before"], flip["after"]) for flip in row["flips"]] == [
        ("overflow", "failed", "passed")
    ]
    assert (row["old"]["points"], row["new"]["points"]) == ("1", "2")
    await _has_both_logs(students, row)
    # Until it is published it changes nothing that anybody sees.
    assert (await students.points(), await students.points("draft"), await students.book()) == (before, before, book)
    assert (await students.get("runs?limit=500"))["items"] == runs
    await _report_is_hidden(students, row, is_hidden=True)

    published = await students.post(f"regrades/{regrade['id']}/publish", {"publish": "raise", **NOTE})
    assert (published["state"], published["version"], published["note"]) == ("published", 2, NOTE["note"])
    after = {name: "2" if name in changed else "1" for name in before}
    assert await students.points() == await students.points("draft") == after
    await _report_is_hidden(students, row, is_hidden=False)
    again = await students.ask("POST", f"regrades/{regrade['id']}/publish", {"publish": "all", **NOTE})
    assert (again.status_code, again.json()["detail"]) == (409, "the regrade is published as version 2 already")

    undone = await students.post("assignments/mp1/grades/undo", {"based_on": 2})
    assert (undone["number"], await students.points(), await students.points("draft")) == (3, before, before)
    published = await students.post(f"regrades/{regrade['id']}/publish", {"publish": "all", **NOTE})
    assert (published["version"], await students.points()) == (4, after)
    refused = await students.ask("POST", f"regrades/{regrade['id']}/discard")
    assert (refused.status_code, "version 4" in refused.json()["detail"]) == (409, True)


async def _has_both_logs(students: Class, row: dict[str, Any]) -> None:
    for side, expected in (("old", "wrong"), ("new", "corrected")):
        path = row[side]["log"].removeprefix(f"{COURSE}/")
        assert expected in str(await students.get(path))


async def _report_is_hidden(students: Class, row: dict[str, Any], *, is_hidden: bool) -> None:
    """Check whether the student sees the report of the regrade."""
    made = await students.post("student-tokens", {"student": row["student"], "name": f"t{is_hidden}"}, status=201)
    headers = {"Authorization": f"Bearer {made['token']}"}
    answer = await students.cluster.client.http.get(f"{COURSE}/jobs/{row['new']['job']}/report", headers=headers)
    assert answer.status_code == (404 if is_hidden else 200), answer.text


@pytest.mark.timeout(600)
async def test_a_discarded_regrade_leaves_no_report_and_no_byte_in_the_grade_book(students: Class) -> None:
    book, reports = await students.book(), await students.count("job_report")
    await students.correct()
    regrade = await students.start(select="counting")
    row = (await students.rows(regrade["id"]))[_student(CHANGED[0])]
    assert await students.count("job_report") == reports + CLASS

    discarded = await students.post(f"regrades/{regrade['id']}/discard")

    assert (discarded["state"], discarded["counts"]) == ("discarded", None)

    async def are_removed() -> bool:
        return await students.count("job_report") == reports

    await until(are_removed)
    log = await students.ask("GET", row["new"]["log"].removeprefix(f"{COURSE}/"))
    assert log.status_code == 404
    assert await students.book() == book
    entry = (await students.get("audit?limit=1"))["items"][0]
    assert (entry["operation"], '"state":"ready"' in entry["before"].replace(" ", "")) == ("regrades_discard", True)
    for order in ("publish", "refresh", "discard"):
        body = {"publish": "all", **NOTE} if order == "publish" else None
        refused = await students.ask("POST", f"regrades/{regrade['id']}/{order}", body)
        assert (refused.status_code, "is discarded" in refused.json()["detail"]) == (409, True)


@pytest.mark.timeout(600)
async def test_of_two_publishers_one_is_told_that_the_other_was_first(students: Class) -> None:
    await students.correct()
    regrade = await students.start()
    path = f"regrades/{regrade['id']}/publish"

    answers = await asyncio.gather(
        students.ask("POST", path, {"publish": "all", **NOTE}),
        students.ask("POST", path, {"publish": "raise", **NOTE}),
        students.ask("POST", "assignments/mp1/grades/publish", {"based_on": 1}),
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409], [each.text for each in answers]
    refusals = [answer.json()["detail"] for answer in answers if answer.status_code == 409]
    told = ("version 2", "the class has changed", "another process has changed")
    assert all(any(each in refusal for each in told) for refusal in refusals), refusals
    assert len((await students.get("assignments/mp1/grades/versions"))["items"]) == 2


@pytest.mark.timeout(600)
async def test_a_regrade_is_stale_after_a_new_submission_and_refreshed_for_its_student_only(students: Class) -> None:
    await students.correct()
    regrade = await students.start()
    path = f"regrades/{regrade['id']}"
    await _hand_in(students, 0, files={"wrong": _scores(0), "corrected": _scores(1)})

    async def is_stale() -> bool:
        return bool((await students.get(path))["state"] == "stale")

    await until(is_stale, within=300)
    assert list(await students.rows(regrade["id"], category="stale")) == [_student(0)]
    refused = await students.ask("POST", f"{path}/publish", {"publish": "all", **NOTE})
    assert (refused.status_code, "has changed since" in refused.json()["detail"]) == (409, True)
    assert (await students.get("assignments/mp1/regrades"))["items"][0]["state"] == "stale"

    refreshed = await students.post(f"{path}/refresh")
    assert refreshed["jobs"] == regrade["jobs"] + 1
    ready = await students.ready(regrade["id"])

    assert ready["counts"] == {"up": len(CHANGED) + 1, "same": CLASS - len(CHANGED) - 1}
    await students.post(f"{path}/publish", {"publish": "chosen", "students": [_student(0)], **NOTE})
    assert await students.points() == {**dict.fromkeys(await students.points(), "1"), _student(0): "2"}


@pytest.mark.timeout(600)
async def test_an_infrastructure_error_blocks_until_it_is_refreshed_or_the_old_grade_is_kept(students: Class) -> None:
    await students.correct()
    async with AsyncMongoClient(students.cluster.place.mongodb_dsn) as mongo:
        blobs = mongo[students.cluster.settings.mongodb.primary]["blob"]
        lost = hashlib.sha256(_scores(1)).hexdigest()
        (kept,) = await blobs.find({"_id": lost}).to_list()
        await blobs.delete_one({"_id": lost})
        for file in (students.cluster.graders.directory / "host1" / "files").rglob(lost):
            file.unlink()
        regrade = await students.start()
        await blobs.insert_one(kept)
    path = f"regrades/{regrade['id']}"
    assert regrade["counts"] == {"infra_error": len(CHANGED), "same": CLASS - len(CHANGED)}

    refused = await students.ask("POST", f"{path}/publish", {"publish": "all", **NOTE})

    assert (refused.status_code, f"of {len(CHANGED)} students" in refused.json()["detail"]) == (409, True)
    before = await students.points()
    await students.post(f"{path}/refresh")
    ready = await students.ready(regrade["id"])
    assert ready["counts"] == {"up": len(CHANGED), "same": CLASS - len(CHANGED)}
    assert await students.points() == before


@pytest.mark.timeout(600)
async def test_staff_regrade_by_commands(students: Class) -> None:
    await students.correct()
    server = f"http://127.0.0.1:{students.cluster.settings.bind_port}"

    async def types(*arguments: str) -> Command:
        options = ("--server", server, "--course", "cs241", "--token", "staff-241")
        return await broadway("regrade", *arguments, *options)

    started = await types("start", "mp1", "--control", "5", "--reason", "issue 7", "--watch")
    assert started.exit_code == 0, started.stderr
    assert f"{len(CHANGED)} up, {CLASS - len(CHANGED)} same\n" in started.stderr
    assert f"{len(CHANGED)} students: overflow failed → passed\n" in started.stderr
    assert "control group: 0 of 5 submissions are unstable\n" in started.stderr
    _, first, *others = started.stdout.splitlines()
    assert first.split("\t")[:5] == [_student(CHANGED[0]), "up", "1", "2", "overflow failed→passed"]
    assert len(others) == CLASS - 1

    _, listed = (await types("list", "mp1")).stdout.splitlines()
    identity = listed.split("\t")[0]
    assert listed.split("\t")[1:5] == ["ready", "latest", str(CLASS), "token 1"]
    shown = json.loads((await types("show", identity, "--json", "--category", "up")).stdout)
    assert (shown["counts"]["up"], len(shown["rows"])) == (len(CHANGED), len(CHANGED))
    published = await types("publish", identity, "--only-raise", "--note", NOTE["note"])
    assert (published.exit_code, published.stdout) == (0, "published as version 2\n")
    assert (await types("discard", identity)).exit_code == 2, "it asks, and there is no terminal"
    refused = await types("discard", identity, "--yes")
    assert (refused.exit_code, "undo that instead" in refused.stderr) == (1, True)
    usage = await types("start", "mp1", "--select", "chosen")
    assert (usage.exit_code, "--submission" in usage.stderr) == (2, True)

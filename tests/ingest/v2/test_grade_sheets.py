"""Grades as files over HTTP and by the command: the bytes of real exports, and the words when there is no grade."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from domain.sheets.classes import CLASS
from domain.sheets.exports import EXPORTS, Export
from harness import Client, broadway, stage, token_of, until

from broadway.domain.grade import Grade, GradeStatus
from broadway.domain.grade_book import BookEntry, MadeFrom, Published, Version, chunks_of
from broadway.domain.sheets.cells import MAX_BYTES
from broadway.domain.sheets.entries import EntryStatus
from broadway.ingest.v2.docs_page import document
from broadway.mongo.store import Store

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
STATUSES = {EntryStatus.GRADED: GradeStatus.GRADED, EntryStatus.MISSING: GradeStatus.NOT_SUBMITTED}
every_export = pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.name)


class Desk:
    """An assignment with the class of the tests of sheets, and requests for its grades."""

    def __init__(self, client: Client, store: Store, course: str) -> None:
        self.client, self.store, self.course = client, store, course

    async def begin(self) -> None:
        await self.client.register(self.course, "mp1", students=[stage()])
        students = [{"student": each.student, "env": dict(each.identifiers)} for each in CLASS]
        answer = await self.ask("roster", method="PUT", json={"students": students})
        assert answer.status_code == 200, answer.text

    async def publish(self, **scores: str) -> int:
        """Publish the grades of the class as the next version, with some of them changed; return its number."""
        entries = [
            Grade(
                each.student,
                STATUSES[each.status],
                Decimal(scores[each.student]) if each.student in scores else each.score,
                each.maximum,
            )
            for each in CLASS
        ]
        return await self.publish_grades(entries)

    async def publish_grades(self, grades: Sequence[Grade]) -> int:
        books = self.store.grades.books
        pointer = await books.published(self.course, "mp1")
        before = pointer.version if pointer else 0
        chunks = chunks_of([BookEntry(each, job=f"job-{each.student}") for each in grades])
        refs = tuple(chunk.ref for chunk in chunks)
        await books.put_chunks(chunks)
        await books.add(Version(self.course, "mp1", before + 1, before, MadeFrom.DRAFT, refs, 0, AT))
        assert await books.point(Published(self.course, "mp1", before + 1, AT, before=before))
        return before + 1

    async def publish_draft(self) -> None:
        """Publish the draft of the class, in which there are no submissions, for 20 points."""
        answer = await self.ask("settings", method="PUT", json={"points": 20})
        assert answer.status_code == 200, answer.text
        answer = await self.ask("grades/publish", method="POST", json={"based_on": 0})
        assert answer.status_code == 200, answer.text

    async def ask(self, path: str, *, method: str = "GET", assignment: str = "mp1", **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token_of(self.course)}"} | more.pop("headers", {})
        url = f"/api/v2/courses/{self.course}/assignments/{assignment}/{path}"
        return await self.client.http.request(method, url, headers=headers, **more)

    async def merge(self, data: bytes, **params: Any) -> httpx2.Response:
        return await self.ask("grades/merge", method="POST", content=data, params={"column": "mp1", **params})


@pytest.fixture
async def desk(client: Client, store: Store, course: str) -> Desk:
    desk = Desk(client, store, course)
    await desk.begin()
    return desk


@every_export
async def test_a_merge_changes_the_chosen_cells_byte_for_byte_and_a_second_one_nothing(
    desk: Desk, export: Export
) -> None:
    await desk.publish()
    choice = {"column": export.column, "encoding": export.named}

    first = await desk.merge(export.data("", "3.00", ""), **choice)
    second = await desk.merge(first.content, **choice)

    assert first.status_code == 200, first.text
    assert first.content == export.data("17.5", "-1", "")
    assert second.content == first.content
    assert first.headers["content-disposition"].startswith('attachment; filename="mp1-v1-merged.csv"')
    assert (first.headers["broadway-version"], first.headers["broadway-complete"]) == ("1", "false")
    charset = first.headers["content-type"].partition("charset=")[2].partition(";")[0]
    assert first.content.decode(charset).lstrip("\ufeff") == export.data("17.5", "-1", "").decode(charset).lstrip(
        "\ufeff"
    )


@pytest.mark.parametrize("export", [EXPORTS[3], EXPORTS[6]], ids=lambda export: export.name)
async def test_the_command_merges_the_same_bytes_and_names_all_without_a_counterpart(
    desk: Desk, client: Client, tmp_path: Path, export: Export
) -> None:
    await desk.publish()
    source, target, again = (tmp_path / name for name in ("lms.csv", "merged.csv", "again.csv"))
    source.write_bytes(export.data("", "3.00", ""))
    options = ("--column", export.column, "--encoding", export.named)
    access = ("--server", str(client.http.base_url), "--token", token_of(desk.course), "-c", desk.course)

    merged = await broadway("grades", "merge", "mp1", str(source), *options, "-o", str(target), *access)
    strict = await broadway("grades", "merge", "mp1", str(target), *options, "-o", str(again), "--strict", *access)

    assert merged.exit_code == 0, merged.stderr
    assert target.read_bytes() == again.read_bytes() == export.data("17.5", "-1", "")
    assert "not in the file: dan: no row has one of its identifiers" in merged.stderr
    assert "not in the grades: row " in merged.stderr
    assert (strict.exit_code, "0 changed" in strict.stderr) == (1, True)
    listed = target.with_name("merged-unmatched.csv").read_text()
    assert "dan" in listed
    assert "00999" in listed


async def test_the_findings_of_a_merge_come_with_both_files(desk: Desk) -> None:
    await desk.publish()
    data = EXPORTS[0].data("", "3.00", "")

    found = (await desk.merge(data, answer="json")).json()
    unmatched = await desk.merge(data, answer="unmatched")

    assert [(each["student"], each["before"], each["after"]) for each in found["changes"]] == [
        ("ada", "", "17.5"),
        ("bob", "3.00", "-1"),
    ]
    assert (found["lms"], found["version"], found["complete"], found["errors"]) == ("canvas", 1, False, 0)
    assert [each["student"] for each in found["unmatched_students"]] == ["dan"]
    assert unmatched.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert unmatched.text.splitlines()[0] == "missing_in,student,row,row_text,reason"


async def test_files_of_no_published_grades_are_refused_in_words(desk: Desk) -> None:
    answers = [
        await desk.ask("grades/export"),
        await desk.merge(EXPORTS[0].data("", "", "")),
        await desk.ask("grades/export?version=7"),
    ]

    assert [each.status_code for each in answers] == [404, 404, 404]
    assert "no grades of mp1 are published; publish them, or ask for the draft" in answers[0].text
    assert "mp1 has no version 7 of its grades" in answers[2].text
    unknown = await desk.ask("grades/export", assignment="mp9")
    assert (unknown.status_code, "mp9" in unknown.text or "assignment" in unknown.text) == (404, True)


async def test_an_export_says_of_which_version_it_is(desk: Desk) -> None:
    await desk.publish()
    await desk.publish(ada="18")

    first, present = await desk.ask("grades/export?version=1"), await desk.ask("grades/export")

    assert [each.headers["broadway-version"] for each in (first, present)] == ["1", "2"]
    assert first.text.splitlines()[1] == "ada,17.5,20,graded,,0,job-ada,,1,2026-11-30T12:00:00Z"
    assert present.text.splitlines()[1].startswith("ada,18,20,graded,,0,job-ada,,2,")
    assert present.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert 'filename="mp1-v2.csv"' in present.headers["content-disposition"]
    same = await desk.ask("grades/export", headers={"If-None-Match": present.headers["etag"]})
    assert same.status_code == 304


@pytest.mark.parametrize("kind", ["csv", "jsonl", "canvas", "moodle", "brightspace", "gradescope"])
async def test_every_format_comes_as_a_file_with_its_findings(desk: Desk, kind: str) -> None:
    await desk.publish()

    file = await desk.ask(f"grades/export?format={kind}&title=Lab")
    found = (await desk.ask(f"grades/export?format={kind}&title=Lab&answer=json")).json()

    assert file.status_code == 200, file.text
    assert "17.5" in file.text
    assert {each["student"] for each in found["left_out"]} == set()
    assert found["version"] == 1


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("format=xlsx", 400, "format"),
        ("version=0", 400, "version"),
        ("version=latest", 400, "version"),
        ("format=canvas&decimal=comma", 422, "decimal: canvas expects a point"),
        ("format=moodle&title=%3D1%2B1", 422, "does not begin like a formula"),
        ("column=x", 400, "column"),
        ("format=csv&format=csv", 400, "format: expected once"),
    ],
)
async def test_an_export_that_cannot_be_made_is_refused(desk: Desk, query: str, status: int, said: str) -> None:
    await desk.publish()

    answer = await desk.ask(f"grades/export?{query}")

    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("data", "more", "status", "said"),
    [
        (b"", {}, 422, "row 1: expected the names of columns"),
        (b"Student,ID,mp2\n", {}, 422, "expected a column named mp1; did you mean mp2?"),
        ("Zo\u00eb,mp1\n".encode("latin-1"), {}, 422, "line 1: the byte 0xEB is not UTF-8"),
        (b"x" * (MAX_BYTES + 1), {}, 413, "too large"),
        (b"a,mp1\n", {"headers": {"Content-Encoding": "gzip"}}, 415, "Content-Encoding"),
        (b"a,mp1\n", {"headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 415, "not a form"),
        (b"a,mp1\n", {"params": {"column": "mp1", "key": "a"}}, 422, "expected the name of a column and that of"),
        (b"a,mp1\n", {"params": {"column": "mp1", "key": ["a=b"] * 11}}, 400, "key"),
        (b"a,mp1\n", {"params": {"column": "mp1", "encoding": "cp037"}}, 400, "encoding"),
        (b"a,mp1\n", {"params": {}}, 400, "column"),
    ],
)
async def test_a_merge_that_cannot_be_made_is_refused(
    desk: Desk, data: bytes, more: dict[str, Any], status: int, said: str
) -> None:
    await desk.publish()
    params = more.pop("params", {"column": "mp1"})

    answer = await desk.ask("grades/merge", method="POST", content=data, params=params, **more)

    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


async def test_keys_may_be_named_more_than_once(desk: Desk) -> None:
    await desk.publish()
    data = b"Login,Matrikel,mp1\nada,00246,\nbob,,\n"

    answer = await desk.merge(data, key=["Matrikel=sis_id", "Login=student"])

    assert answer.content == b"Login,Matrikel,mp1\nada,00246,17.5\nbob,,-1\n", answer.text


async def test_the_names_of_students_may_be_their_identifiers(desk: Desk) -> None:
    await desk.publish()

    answer = await desk.merge(b"Email address,mp1\ndan,\n", student_is="email")

    assert answer.content == b"Email address,mp1\ndan,3\n", answer.text


async def test_other_courses_and_students_do_not_get_the_grades(desk: Desk, client: Client, other_course: str) -> None:
    await desk.publish()
    made = await client.http.post(
        f"/api/v2/courses/{desk.course}/student-tokens",
        json={"student": "ada"},
        headers={"Authorization": f"Bearer {token_of(desk.course)}"},
    )
    for token in (token_of(other_course), made.json()["token"]):
        for method, task in (("GET", "export"), ("POST", "merge?column=a"), ("POST", "import")):
            headers = {"Authorization": f"Bearer {token}"}
            answer = await desk.ask(f"grades/{task}", method=method, headers=headers)
            assert answer.status_code == 401, answer.text


async def test_merges_at_the_same_time_have_their_own_results(desk: Desk) -> None:
    students = [f"s{n:04}" for n in range(2000)]
    await desk.publish_grades([Grade(each, GradeStatus.GRADED, Decimal(7), Decimal(20)) for each in students])
    files = ["student,mp1\n" + "".join(f"{each},\n" for each in students[n::4]) for n in range(4)]

    answers = await asyncio.gather(*(desk.merge(each.encode()) for each in files))

    assert [each.text for each in answers] == [each.replace(",\n", ",7\n") for each in files]


def rows(found: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(each["student"], each["before"], each["after"]) for each in found["changes"]]


async def read(desk: Desk, data: bytes, **params: Any) -> httpx2.Response:
    return await desk.ask("grades/import", method="POST", content=data, params=params)


async def test_a_changed_sheet_is_shown_against_its_own_version(desk: Desk) -> None:
    await desk.publish()
    sheet = (await desk.ask("grades/export")).content.replace(b"ada,17.5", b"ada,18")
    await desk.publish(bob="5")

    answer = await read(desk, sheet)

    found = answer.json()
    assert answer.status_code == 200, answer.text
    assert (found["version"], found["applied"]) == (1, False)
    assert found["counts"]["same"] == 3, "the sheet does not undo what was published since then"


async def test_a_broken_sheet_is_refused_at_its_row(desk: Desk) -> None:
    await desk.publish()

    answer = await read(desk, b"student,score\nada,many\n")

    assert (answer.status_code, json.loads(answer.text)["detail"]) == (
        422,
        "row 2, column 2: expected a number such as 17.5 or an empty cell, not 'many'",
    )


async def test_the_changes_of_a_sheet_are_made_once_as_decisions(desk: Desk) -> None:
    await desk.publish_draft()
    sheet = (await desk.ask("grades/export")).text
    lines = sheet.splitlines()
    assert lines[1].startswith("ada,,20,missing,"), sheet
    changed = [f"{lines[0]},reason", lines[1].replace("ada,,", "ada,18.25,", 1) + ",bonus", *lines[2:3]]
    changed[2] = changed[2].replace(",missing,", ",excused,") + ","
    data = "\n".join(changed).encode()

    shown = await read(desk, data)
    silent = await read(desk, data, apply="true")
    made = await read(desk, data, apply="true", reason="ill for weeks")
    again = await read(desk, data, apply="true", reason="ill for weeks")

    assert rows(shown.json()) == [("ada", None, "18.25"), ("bob", None, None)], shown.text
    assert (silent.status_code, "give a reason, which students read, for bob (row 3)" in silent.text) == (409, True)
    assert (made.status_code, made.json()["counts"]["changes"], made.json()["applied"]) == (200, 2, True), made.text
    assert (again.json()["counts"]["changes"], again.json()["counts"]["made before"]) == (0, 2), again.text
    draft = (await desk.ask("grades/export?version=draft")).text.splitlines()
    assert draft[1].startswith("ada,18.25,20,graded,")
    assert draft[2].startswith("bob,,20,excused,")
    stored = await desk.store.grades.adjustments.of_assignment(desk.course, "mp1")
    assert [(each.student, each.kind, each.reason) for each in stored] == [
        ("ada", "final", "bonus"),
        ("bob", "excused", "ill for weeks"),
    ]


async def test_a_sheet_of_a_grade_that_has_changed_since_changes_nothing(desk: Desk) -> None:
    await desk.publish_draft()
    sheet = (await desk.ask("grades/export")).content.replace(b"ada,,", b"ada,18,").replace(b"bob,,", b"bob,3,")
    order = {"student": "ada", "kind": "final", "points": "19", "reason": "seen in office hours"}
    adjusted = await desk.ask("adjustments", method="POST", json={"items": [order]})
    assert adjusted.status_code == 201, adjusted.text

    answer = await read(desk, sheet, apply="true", reason="a sheet")

    assert answer.status_code == 409, answer.text
    assert answer.json()["detail"] == "nothing is changed; ada: row 2: the grade is 19 now; export the grades again"
    assert len(await desk.store.grades.adjustments.of_assignment(desk.course, "mp1")) == 1


async def test_a_merge_and_an_application_are_in_the_audit_log(desk: Desk) -> None:
    await desk.publish_draft()
    await desk.merge(b"student,mp1\nada,\n")
    await read(desk, b"student,score,reason\nada,18,bonus\n", apply="true")

    async def records() -> list[str]:
        page = await desk.client.get(f"courses/{desk.course}/audit", token=token_of(desk.course), version="v2")
        return [each["operation"] for each in page.json()["items"]]

    await until(lambda: _has(records, "grade_sheets_merge", "grade_sheets_import"))


async def _has(records: Callable[[], Awaitable[list[str]]], *operations: str) -> bool:
    return set(operations) <= set(await records())


def test_the_description_of_the_api_has_the_files() -> None:
    paths = document()["paths"]
    base = "/api/v2/courses/{course}/assignments/{assignment}/grades"
    merge, export = paths[f"{base}/merge"]["post"], paths[f"{base}/export"]["get"]

    assert merge["requestBody"] == {"required": True, "content": {"text/csv": {}}}
    assert {"application/json", "text/csv"} == set(merge["responses"]["200"]["content"])
    assert "text/csv" in export["responses"]["200"]["content"]
    (key,) = [each for each in merge["parameters"] if each["name"] == "key"]
    assert (key["schema"]["type"], key["schema"]["maxItems"]) == ("array", 10)

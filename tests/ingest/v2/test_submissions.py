"""Submissions over HTTP: uploads of each form, refusals in words, repetitions, rights and downloads."""

import asyncio
import io
import tarfile
import zipfile
from typing import Any

import httpx2
import pytest
from harness import Client, stage, token_of, until

from broadway.mongo.store import Store

MAIN = b"int main(void) { return 0; }\n"


def zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


class Course:
    """A course with the assignment mp1, and requests about its submissions."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self.path = f"/api/v2/courses/{name}"

    async def ask(self, path: str, method: str = "GET", *, token: str = "", **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token or token_of(self.name)}"} | more.pop("headers", {})
        return await self.client.http.request(method, f"{self.path}{path}", headers=headers, **more)

    async def hand_in(self, files: dict[str, bytes], *, student: str = "ada", **more: Any) -> httpx2.Response:
        given = [("files", (name, content)) for name, content in files.items()]
        query = f"?student={student}" if student else ""
        return await self.ask(f"/assignments/mp1/submissions{query}", "POST", files=given, **more)

    async def configure(self, **settings: Any) -> None:
        answer = await self.ask("/assignments/mp1/settings", "PUT", json=settings)
        assert answer.status_code == 200, answer.text

    async def listed(self, query: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.ask(f"/assignments/mp1/submissions{query}")).json()["items"]
        return items

    async def token_of_student(self, student: str) -> str:
        answer = await self.ask("/student-tokens", "POST", json={"student": student, "name": "laptop"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])


@pytest.fixture
async def mp1(client: Client, course: str) -> Course:
    await client.register(course, "mp1", students=[stage()])
    return Course(client, course)


async def test_files_of_a_form_are_a_submission_that_starts_a_run(mp1: Course) -> None:
    answer = await mp1.hand_in({"src/main.c": MAIN, "README": b""})

    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"{mp1.path}/submissions/{made['id']}"
    assert {file["path"]: file["size"] for file in made["files"]} == {"src/main.c": len(MAIN), "README": 0}
    assert (made["student"], made["count"], made["size"], made["state"]) == ("ada", 2, len(MAIN), "accepted")
    run = (await mp1.ask(f"/runs/{made['run_id']}")).json()
    assert run["trigger"]["student"] == "ada"
    shown = (await mp1.ask(f"/submissions/{made['id']}")).json()
    assert (shown["job"]["state"], shown | {"job": None}) == ("queued", made)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (zipped({"a/main.c": MAIN, "a/run.sh": b"true"}), "application/zip"),
        (tarred({"a/main.c": MAIN, "a/run.sh": b"true"}), "application/gzip"),
    ],
    ids=["zip", "tar.gz"],
)
async def test_an_archive_is_unpacked(mp1: Course, body: bytes, kind: str) -> None:
    answer = await mp1.ask(
        "/assignments/mp1/submissions?student=ada", "POST", content=body, headers={"Content-Type": kind}
    )
    assert answer.status_code == 201, answer.text
    assert [file["path"] for file in answer.json()["files"]] == ["a/main.c", "a/run.sh"]
    assert answer.json()["archive"].startswith("submission.")

    await mp1.configure(files={"without_top_directory": True})
    as_file = await mp1.hand_in({"mp1.zip": zipped({"a/main.c": MAIN, "a/run.sh": b"true"})})
    assert [file["path"] for file in as_file.json()["files"]] == ["main.c", "run.sh"]

    await mp1.configure(files={"allowed": ["*.zip"]})
    kept = await mp1.hand_in({"mp1.zip": zipped({"a/main.c": MAIN})})
    assert [file["path"] for file in kept.json()["files"]] == ["mp1.zip"]


@pytest.mark.parametrize(
    ("files", "settings", "expected"),
    [
        ({"../main.c": MAIN}, {}, "../main.c: .. is not a name inside the submission"),
        ({"main.c": MAIN, "Main.c": MAIN}, {}, "main.c and Main.c differ only in case"),
        ({"a.txt": MAIN}, {"required": ["main.c"]}, "main.c is missing; the files are a.txt"),
        ({"main.c": MAIN, "a.out": MAIN}, {"allowed": ["*.c"]}, "a.out is not expected; expected *.c"),
        ({"a": b"x", "b": b"x"}, {"max_files": 1}, "b: there are too many files in this submission"),
        ({"a": b"x" * 11}, {"max_bytes": 10}, "the files have 11 bytes; a submission may have 10"),
        ({"a.zip": zipped({"../b": MAIN})}, {}, "../b: .. is not a name inside the submission"),
        ({"a.zip": b"no zip"}, {}, "the archive is neither a zip nor a tar.gz"),
        ({".DS_Store": b"x"}, {}, "there is no file in this submission"),
        (
            {"a": b"x" * 11},
            {"max_unpacked_bytes": 10},
            "the files have 11 bytes; a submission may have 10 bytes in all",
        ),
        ({"a.zip": zipped({"top/C:x": MAIN})}, {"without_top_directory": True}, "C:x: an absolute path"),
        ({"a\x1b[1m.zip": zipped({"a": MAIN})}, {}, "a\\x1b[1m.zip: the name has control characters"),
    ],
    ids=[
        "outside",
        "case",
        "missing",
        "foreign",
        "many",
        "large",
        "in-archive",
        "no-archive",
        "litter",
        "unpacked",
        "drive",
        "archive-name",
    ],
)
async def test_files_are_refused_in_words_and_nothing_is_stored(
    mp1: Course, files: dict[str, bytes], settings: dict[str, Any], expected: str
) -> None:
    await mp1.configure(files=settings)

    answer = await mp1.hand_in(files)

    assert answer.status_code == 422, answer.text
    assert expected in answer.json()["detail"]
    assert await mp1.listed() == []


@pytest.mark.parametrize(
    ("headers", "body", "status", "expected"),
    [
        ({"Content-Type": "text/plain"}, b"x", 415, "Content-Type: expected one of multipart/form-data"),
        ({"Content-Type": "multipart/form-data"}, b"x", 400, "needs a boundary"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--y\r\n", 400, "the form is malformed"),
        (
            {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nhalf',
            400,
            "the form is not complete",
        ),
        (
            {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            400,
            "the form has no file",
        ),
    ],
    ids=["text", "no-boundary", "malformed", "half", "no-file"],
)
async def test_a_body_of_another_form_is_refused(
    mp1: Course, headers: dict[str, str], body: bytes, status: int, expected: str
) -> None:
    answer = await mp1.ask("/assignments/mp1/submissions?student=ada", "POST", content=body, headers=headers)
    assert (answer.status_code, expected in answer.json()["detail"]) == (status, True), answer.text
    assert await mp1.listed() == []


async def test_a_repeated_request_is_the_same_submission(mp1: Course) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await mp1.hand_in({"a": b"1"}, headers=headers)
    again = await mp1.hand_in({"a": b"1"}, headers=headers)
    other = await mp1.hand_in({"a": b"2"}, headers=headers)
    without = await mp1.hand_in({"a": b"1"})

    assert [each.status_code for each in (first, again, other, without)] == [201, 200, 422, 201]
    assert again.json() == first.json()
    assert "Idempotency-Key" in other.json()["detail"]
    assert len(await mp1.listed()) == 2


async def test_equal_requests_at_the_same_time_are_one_submission_with_one_run(mp1: Course) -> None:
    answers = await asyncio.gather(*(mp1.hand_in({"a": b"1"}, headers={"Idempotency-Key": "k"}) for _ in range(8)))
    assert sorted(each.status_code for each in answers) == [*[200] * 7, 201]
    assert len({each.json()["id"] for each in answers}) == 1
    assert len({run["id"] for run in (await mp1.ask("/runs")).json()["items"]}) == 1


async def test_submissions_wait_for_the_run_for_the_roster_if_the_assignment_says_so(mp1: Course, store: Store) -> None:
    await mp1.configure(starts="with_roster")
    roster = {"students": [{"student": "ada"}, {"student": "bob"}]}
    assert (await mp1.ask("/assignments/mp1/roster", "PUT", json=roster)).is_success
    await mp1.hand_in({"a": b"1"})
    latest = (await mp1.hand_in({"a": b"2"})).json()
    assert (latest["state"], latest["run_id"]) == (None, None)
    assert (await mp1.ask("/runs")).json()["items"] == []

    run = (await mp1.ask("/assignments/mp1/runs", "POST", json={"students": "all"})).json()

    ids = [job["id"] for job in (await mp1.ask(f"/runs/{run['id']}/jobs")).json()["items"]]
    stages = await store.jobs.stages(ids)
    envs = [stages[each][0]["env"] for each in ids]
    assert [(env["BROADWAY_STUDENT"], env.get("BROADWAY_SUBMISSION")) for env in envs] == [
        ("ada", latest["id"]),
        ("bob", None),
    ]


async def test_a_later_submission_supersedes_one_that_waits(mp1: Course) -> None:
    await mp1.configure(only_latest=True)
    first = (await mp1.hand_in({"a": b"1"})).json()
    await mp1.hand_in({"a": b"2"})

    async def is_superseded() -> bool:
        jobs = (await mp1.ask(f"/runs/{first['run_id']}/jobs")).json()["items"]
        return [job["outcome"] for job in jobs] == ["superseded"]

    await until(is_superseded)


async def test_a_quota_limits_submissions(mp1: Course) -> None:
    await mp1.configure(quota={"submissions": 1, "seconds": 3600})
    first, second = [(await mp1.hand_in({"a": content})).json() for content in (b"1", b"2")]
    assert (first["state"], second["state"], second["run_id"]) == ("accepted", "limited", None)
    assert "1 submissions in 3600 s are allowed" in second["reason"]


async def test_a_student_hands_in_and_sees_its_own_submissions_only(mp1: Course) -> None:
    roster = {"students": [{"student": "ada"}, {"student": "bob"}]}
    assert (await mp1.ask("/assignments/mp1/roster", "PUT", json=roster)).is_success
    token = await mp1.token_of_student("ada")
    bobs = (await mp1.hand_in({"b": b"secret"}, student="bob")).json()

    own = await mp1.hand_in({"a": b"1"}, student="", token=token)
    foreign = await mp1.hand_in({"a": b"1"}, student="bob", token=token)

    assert (own.status_code, own.json()["student"], foreign.status_code) == (201, "ada", 403)
    listed = await mp1.ask("/assignments/mp1/submissions?student=bob", token=token)
    assert [each["id"] for each in listed.json()["items"]] == [own.json()["id"]]
    for path in ("", "/files/b", "/archive"):
        assert (await mp1.ask(f"/submissions/{bobs['id']}{path}", token=token)).status_code == 404
    assert (await mp1.hand_in({"a": b"1"}, student="")).status_code == 400


async def test_submissions_are_listed_latest_first_in_pages(mp1: Course) -> None:
    made = [(await mp1.hand_in({"a": b"%d" % number}, student="ada")).json()["id"] for number in range(3)]
    other = (await mp1.hand_in({"a": b"x"}, student="bob")).json()["id"]

    first = (await mp1.ask("/assignments/mp1/submissions?limit=2")).json()
    rest = (await mp1.ask(f"/assignments/mp1/submissions?limit=2&after={first['next']}")).json()

    assert [each["id"] for each in first["items"] + rest["items"]] == [other, *reversed(made)]
    assert [each["id"] for each in await mp1.listed("?student=ada")] == [*reversed(made)]
    assert (await mp1.ask("/assignments/mp1/submissions?after=x")).status_code == 400


async def test_a_file_is_downloaded_with_ranges_and_entity_tags(mp1: Course) -> None:
    made = (await mp1.hand_in({"d/é.html": b"<script>0123456789"})).json()
    path = f"/submissions/{made['id']}/files/d/é.html"

    whole = await mp1.ask(path)
    part = await mp1.ask(path, headers={"Range": "bytes=8-11"})
    end = await mp1.ask(path, headers={"Range": "bytes=-2"})
    outside = await mp1.ask(path, headers={"Range": "bytes=99-"})
    known = await mp1.ask(path, headers={"If-None-Match": whole.headers["etag"]})
    changed = await mp1.ask(path, headers={"Range": "bytes=0-1", "If-Range": '"other"'})

    assert (whole.status_code, whole.content) == (200, b"<script>0123456789")
    assert whole.headers["content-disposition"].startswith("attachment;")
    assert "filename*=UTF-8''%C3%A9.html" in whole.headers["content-disposition"]
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-security-policy"].startswith("sandbox")
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"0123", "bytes 8-11/18")
    assert (end.content, changed.content) == (b"89", whole.content)
    assert (outside.status_code, outside.headers["content-range"]) == (416, "bytes */18")
    assert (known.status_code, known.content) == (304, b"")
    assert (await mp1.ask(f"/submissions/{made['id']}/files/none")).status_code == 404


async def test_all_files_are_downloaded_as_a_zip(mp1: Course) -> None:
    files = {"run.sh": b"true", "d/large": b"0123456789" * 2_000_000}
    body = tarred(files)
    made = await mp1.ask(
        "/assignments/mp1/submissions?student=ada", "POST", content=body, headers={"Content-Type": "application/gzip"}
    )

    answer = await mp1.ask(f"/submissions/{made.json()['id']}/archive")

    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert archive.getinfo("run.sh").external_attr >> 16 == 0o100755
        assert archive.getinfo("d/large").external_attr >> 16 == 0o100644
    assert answer.headers["content-disposition"].startswith('attachment; filename="mp1-ada-')


async def test_an_unknown_assignment_takes_no_submission(mp1: Course) -> None:
    answer = await mp1.ask("/assignments/mp2/submissions?student=ada", "POST", files={"files": ("a", b"x")})
    assert answer.status_code == 404


async def test_a_client_that_vanishes_leaves_nothing(mp1: Course) -> None:
    async def half() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + b"0" * 100_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await mp1.ask(
            "/assignments/mp1/submissions?student=ada",
            "POST",
            content=half(),
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
    assert await mp1.listed() == []


async def test_lists_of_submissions_read_no_files(mp1: Course, store: Store) -> None:
    made = (await mp1.hand_in({"a": b"1", "b": b"22"})).json()
    # As if the manifest could not be read: the list has no need of it.
    await store.submissions._submissions.update_one({"_id": made["id"]}, {"$unset": {"files": ""}})  # noqa: SLF001

    assert await mp1.listed() == [
        {key: made[key] for key in ("id", "assignment", "student", "at", "by", "count", "size")}
    ]

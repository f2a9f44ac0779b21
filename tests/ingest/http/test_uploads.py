"""Uploads and downloads within the memory and the disk of the API: none is kept longer than its client needs it."""

import io
import zipfile
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
from doors import Door, Doors
from harness import small_disk_at, stage, token_of, until
from scraping import Scrape

from broadway.domain.files import PART
from broadway.ingest.http import bodies, uploads
from broadway.mongo.store import Store

MEBIBYTE = 1024 * 1024


async def hand_in(door: Door, course: str, content: bytes, **headers: str) -> httpx2.Response:
    return await door.client.http.post(
        f"/api/v2/courses/{course}/assignments/mp1/submissions?student=ada",
        files={"files": ("a", content)},
        headers={"Authorization": f"Bearer {token_of(course)}", **headers},
    )


async def held(door: Door, place: str) -> float:
    return Scrape.of((await door.client.metrics()).text).total("broadway_http_body_bytes", place=place)


@pytest.mark.parametrize("size", [100, 2 * MEBIBYTE], ids=["small", "large"])
async def test_a_spool_on_a_full_disk_is_an_outage(doors: Doors, course: str, tmp_path: Path, size: int) -> None:
    with small_disk_at(tmp_path / "disk", size=65536, inodes=3) as disk:
        async with doors(http={"spool_dir": disk}) as door:
            await door.client.register(course, "mp1", students=[stage()])
            (disk / "full").write_bytes(bytes(65536))
            answer = await hand_in(door, course, bytes(size))
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text

            (disk / "full").unlink()
            if size < MEBIBYTE:
                assert (await hand_in(door, course, bytes(size))).status_code == 201
            await until(lambda: _is_empty(door, "spool"))


async def test_clients_that_do_not_read_hold_a_bounded_amount(doors: Doors, course: str) -> None:
    http = {"body_memory": 8 * PART, "body_memory_per_address": 4 * PART}
    async with doors(http=http) as door:
        await door.client.register(course, "mp1", students=[stage()])
        made = await hand_in(door, course, bytes(12 * PART))
        path = f"/api/v2/courses/{course}/submissions/{made.json()['id']}"
        request = f"Host: x\r\nAuthorization: Bearer {token_of(course)}\r\n\r\n"

        async with (
            door.connected("127.0.0.2") as first,
            door.connected("127.0.0.2") as second,
            door.connected("127.0.0.2") as third,
        ):
            await first.send(f"GET {path}/files/a HTTP/1.1\r\n{request}".encode())
            await until(lambda: door.holds("memory", 2 * PART))
            await second.send(f"GET {path}/files/a HTTP/1.1\r\n{request}".encode())
            await until(lambda: door.holds("memory", 4 * PART))
            await third.send(f"GET {path}/archive HTTP/1.1\r\n{request}".encode())
            assert (await third.answer()).startswith("HTTP/1.1 429")

        await until(lambda: _is_empty(door, "memory"))
        archive = await door.client.http.get(f"{path}/archive", headers={"Authorization": f"Bearer {token_of(course)}"})
        assert archive.status_code == 200


async def test_vanished_uploads_hold_nothing(doors: Doors, course: str) -> None:
    async with doors(http={}) as door:
        await door.client.register(course, "mp1", students=[stage()])
        head = upload(course, 4 * MEBIBYTE)
        for _ in range(3):
            async with door.connected() as line:
                await line.send(head + bytes(2 * MEBIBYTE))
                await until(lambda: door.holds("spool", 2 * MEBIBYTE))
            await until(lambda: _is_empty(door, "spool"))
        listed = await door.client.http.get(
            f"/api/v2/courses/{course}/assignments/mp1/submissions",
            headers={"Authorization": f"Bearer {token_of(course)}"},
        )
        assert listed.json()["items"] == []


async def test_an_upload_that_goes_on_has_more_time_than_one_that_stalls(
    doors: Doors, course: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_WITHIN", 0.5)
    monkeypatch.setattr(uploads, "PACE", 1.0)
    content = zipped(b"x" * 1000)
    async with doors(http={}) as door, door.connected() as going, door.connected() as stalling:
        await door.client.register(course, "mp1", students=[stage()])
        await going.send(upload(course, len(content)) + content[:-1])
        await until(lambda: door.holds("spool", len(content) - 1))

        await stalling.send(upload(course, len(content)))
        assert (await stalling.answer()).startswith("HTTP/1.1 408")

        await going.send(content[-1:])
        assert (await going.answer()).startswith("HTTP/1.1 201")


def upload(course: str, size: int) -> bytes:
    """Return the head of a request that hands in an archive of a size."""
    return (
        f"POST /api/v2/courses/{course}/assignments/mp1/submissions?student=ada HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {token_of(course)}\r\nContent-Type: application/zip\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()


def zipped(content: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a", content)
    return data.getvalue()


async def _is_empty(door: Door, place: str) -> bool:
    return await held(door, place) == 0


async def test_the_submissions_of_a_course_have_a_bound_that_an_operator_sets(
    doors: Doors, course: str, store: Store
) -> None:
    async with doors(max_stored_bytes=10) as door:
        await door.client.register(course, "mp1", students=[stage()])
        key = {"Idempotency-Key": "one"}
        statuses = [(await hand_in(door, course, b"12345678", **key)).status_code for _ in range(2)]
        refused = await hand_in(door, course, course.encode())
        fits = await hand_in(door, course, b"12")
        metrics = Scrape.of((await door.client.metrics()).text)

    assert [*statuses, refused.status_code, fits.status_code] == [201, 200, 409, 201]
    assert "may have 10 bytes together" in refused.json()["detail"]
    assert await store.blobs.size(sha256(course.encode()).hexdigest()) is None
    results = ("accepted", "repeated", "refused")
    counts = [metrics.total("broadway_submissions_total", course=course, result=result) for result in results]
    assert (counts, metrics.total("broadway_submission_bytes_total", course=course)) == ([2, 1, 1], 10)


async def test_a_number_of_bytes_that_a_crash_left_too_high_is_corrected(
    doors: Doors, course: str, store: Store
) -> None:
    async with doors(max_stored_bytes=10) as door:
        await door.client.register(course, "mp1", students=[stage()])
        assert await store.stored_bytes.take(course, 9, most=10)
        answer = await hand_in(door, course, b"12345678")

    assert answer.status_code == 201, answer.text
    assert not await store.stored_bytes.take(course, 3, most=10)
    assert await store.stored_bytes.take(course, 2, most=10)


async def test_staff_remove_what_a_student_handed_in(doors: Doors, course: str, store: Store) -> None:
    async with doors(max_stored_bytes=10) as door:
        await door.client.register(course, "mp1", students=[stage()])
        made = [await hand_in(door, course, content) for content in (b"12345", b"67890")]
        assert [answer.status_code for answer in (*made, await hand_in(door, course, b"1"))] == [201, 201, 409]
        path = f"/api/v2/courses/{course}/assignments/mp1/submissions"
        headers = {"Authorization": f"Bearer {token_of(course)}"}
        counts = [
            (await door.client.http.delete(path, params={"student": student}, headers=headers)).json()["count"]
            for student in ("bob", "ada", "ada")
        ]

        assert counts == [0, 2, 0]
        assert (await door.client.http.delete(path, headers=headers)).status_code == 400
        assert (await door.client.http.get(path, headers=headers)).json()["items"] == []
        assert (await hand_in(door, course, b"1234567890")).status_code == 201
    assert not await store.submissions.used({sha256(b"12345").hexdigest()})

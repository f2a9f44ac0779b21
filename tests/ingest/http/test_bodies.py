"""Bodies that two readers could read differently: encodings, charsets and repeated keys."""

import gzip
import json
from typing import Any

import httpx2
import pytest
from doors import Door
from pushes import signature

SECRET = "a-secret-of-this-hook"
CONFIG: dict[str, Any] = {"student_pipeline": [{"image": "busybox:1.36"}]}
BODY = json.dumps(CONFIG).encode()
TWICE = b'{"student_pipeline": [{"image": "a", "image": "b"}]}'


async def put(door: Door, course: str, body: bytes, **headers: str) -> httpx2.Response:
    lines = {"Authorization": f"Bearer staff-{course[2:]}", **headers}
    return await door.client.http.put(f"/api/v2/courses/{course}/assignments/mp1", content=body, headers=lines)


async def post_v1(door: Door, course: str, body: bytes, **headers: str) -> httpx2.Response:
    lines = {"Authorization": f"Bearer staff-{course[2:]}", **headers}
    return await door.client.http.post(f"/api/v1/grading_config/{course}/mp1", content=body, headers=lines)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "identity, gzip", "x"])
async def test_v2_takes_no_encoded_body(door: Door, course: str, encoding: str) -> None:
    answer = await put(door, course, gzip.compress(BODY), **{"Content-Encoding": encoding})

    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert "send the body as it is" in answer.json()["detail"]


async def test_v2_takes_no_other_charset_than_utf_8(door: Door, course: str) -> None:
    for charset in ("iso-8859-1", "utf-16", '"Windows-1252"'):
        answer = await put(door, course, BODY, **{"Content-Type": f"application/json; charset={charset}"})
        assert (answer.status_code, "send UTF-8" in answer.json()["detail"]) == (415, True)
    for kind in ("application/json", "application/json; charset=UTF-8", 'text/plain; charset="utf-8"', ";;=", "x"):
        assert (await put(door, course, BODY, **{"Content-Type": kind})).status_code == 200
    assert (await put(door, course, BODY, **{"Content-Encoding": "identity"})).status_code == 200


async def test_v2_takes_no_key_twice(door: Door, course: str) -> None:
    answer = await put(door, course, TWICE)

    assert (answer.status_code, answer.json()["detail"]) == (400, "image: the key stands twice in one object")


async def test_v1_reads_these_bodies_as_the_original(door: Door, course: str) -> None:
    kind = {"Content-Type": "application/json; charset=iso-8859-1"}
    assert (await post_v1(door, course, BODY, **kind)).status_code == 200
    assert (await post_v1(door, course, gzip.compress(BODY), **{"Content-Encoding": "gzip"})).status_code == 400
    assert (await post_v1(door, course, TWICE)).status_code == 200
    stored = await door.client.get(f"grading_config/{course}/mp1", token=f"staff-{course[2:]}")
    assert stored.json()["data"]["student_pipeline"] == [{"image": "b"}]


async def test_a_submission_by_a_hook_may_be_neither(door: Door, course: str) -> None:
    path, staff = f"/api/v2/courses/{course}/hooks/front-end", {"Authorization": f"Bearer staff-{course[2:]}"}
    hook = {"assignment": "mp1", "format": "json", "secrets": [SECRET]}
    assert (await door.client.http.put(path, json=hook, headers=staff)).status_code == 200

    async def send(body: bytes, **headers: str) -> httpx2.Response:
        signed = {"X-Hub-Signature-256": signature(body, SECRET), **headers}
        return await door.client.http.post(path, content=body, headers=signed)

    twice = await send(b'{"student": "ada", "student": "bob", "idempotency_key": "1"}')
    assert (twice.status_code, twice.json()["detail"]) == (400, "student: the key stands twice in one object")
    assert (await send(BODY, **{"Content-Encoding": "gzip"})).status_code == 415

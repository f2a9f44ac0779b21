"""Courses that operators add while the API runs."""

from secrets import token_hex
from typing import Any

import pytest
from harness import Client
from structlog.testing import capture_logs

from broadway.domain.course import Course
from broadway.domain.job import JobClass
from broadway.ingest.commands.courses import CourseSettings
from broadway.messages.topology import Queue, course_queue
from broadway.ports import PublishError
from broadway.rabbit.client import Rabbit

OPERATOR = {"Authorization": "Bearer operator-token"}


async def added(client: Client, **fields: Any) -> Any:
    return await client.http.post("/api/v2/courses", json=fields, headers=OPERATOR)


@pytest.fixture
async def course(client: Client) -> str:
    name = f"new-{token_hex(4)}"
    answer = await added(client, id=name, weight=2.5, concurrency=4)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"id": name, "weight": 2.5, "concurrency": 4, "pool": "default"}
    assert answer.headers["location"] == f"/api/v2/courses/{name}"
    return name


async def test_a_course_is_used_with_a_token_that_an_operator_makes(client: Client, course: str) -> None:
    made = await client.http.post(f"/api/v2/courses/{course}/tokens", json={"name": "Ada"}, headers=OPERATOR)
    token = made.json()["token"]
    registered = await client.post(f"grading_config/{course}/mp1", {"student_pipeline": [{"image": "x"}]}, token=token)
    listed = await client.get("courses", token=token, version="v2")

    assert registered.status_code == 200, registered.text
    assert [each["id"] for each in listed.json()["items"]] == [course]


async def test_the_queues_of_a_course_exist_when_it_does(rabbit: Rabbit, course: str) -> None:
    assert [await rabbit.queue_state(course_queue(course, each)) is not None for each in JobClass] == [True, True]


async def test_a_course_is_added_without_a_broker() -> None:
    class Broker:
        async def declare(self, *_: Queue) -> None:
            raise PublishError("the broker is unavailable", unknown=False)

    class Courses:
        async def all(self) -> list[Course]:
            return []

        async def add(self, _: Course) -> bool:
            return True

    with capture_logs() as logs:
        await CourseSettings(Courses(), Broker()).add(Course(id="cs1", tokens=()))

    assert [each["event"] for each in logs] == ["course added", "queues not declared yet"]


async def test_a_course_is_added_once(client: Client, course: str) -> None:
    again = await added(client, id=course, weight=1.0)

    assert again.status_code == 409
    assert f"there is a course {course} already" in again.json()["detail"]
    assert {"id": course, "weight": 2.5, "concurrency": 4, "pool": "default"} in await in_pages_of(client, 500)


async def test_operators_read_all_courses_in_pages(client: Client, course: str) -> None:
    assert (await added(client, id=f"{course}-2")).status_code == 201

    every = [each["id"] for each in await in_pages_of(client, 500)]
    # Other tests have left many courses.
    found = [each["id"] for each in await in_pages_of(client, len(every) // 2)]

    assert found == sorted(set(found)) == every
    assert {course, f"{course}-2"} <= set(found)


async def in_pages_of(client: Client, limit: int) -> list[dict[str, Any]]:
    """Return all courses, read in pages."""
    found: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        params = {"limit": str(limit), **({"after": after} if after else {})}
        page = (await client.http.get("/api/v2/courses", params=params, headers=OPERATOR)).json()
        found += page["items"]
        assert len(page["items"]) <= limit
        after = page["next"]
    return found


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"id": "a b"}, "id"),
        ({"id": "a" * 101}, "id"),
        ({"id": "a", "weight": 0}, "weight"),
        ({"id": "a", "concurrency": 65_536}, "concurrency"),
        ({"id": "a", "pool": "/"}, "pool"),
        ({"id": "a", "tokens": ["secret-of-nobody"]}, "tokens"),
    ],
    ids=["blank", "long", "weight", "concurrency", "pool", "tokens"],
)
async def test_a_course_without_sense_is_refused(client: Client, fields: dict[str, Any], named: str) -> None:
    answer = await added(client, **fields)

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(named)

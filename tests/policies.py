"""Assignments with a policy, and requests about them, for the tests of policies in force."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from harness import Client, stage, token_of

NOW = datetime.now(UTC).replace(microsecond=0)


def at(**passed: float) -> str:
    """Return a time relative to the start of the tests, such as ``at(hours=-1)``."""
    return (NOW + timedelta(**passed)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Assignment:
    """The assignment mp1 of a course, and requests of staff and of students about it."""

    def __init__(self, client: Client, course: str) -> None:
        self.client = client
        self.course = course
        self.tokens: dict[str, str] = {"": token_of(course)}

    async def ask(self, path: str, method: str = "GET", *, by: str = "", **more: Any) -> httpx2.Response:
        """Send a request below the course: ``by`` staff, or by a student with a token of the student's own."""
        headers = {"Authorization": f"Bearer {self.tokens[by]}"} | more.pop("headers", {})
        return await self.client.http.request(method, f"/api/v2/courses/{self.course}{path}", headers=headers, **more)

    async def of(self, path: str, method: str = "GET", **more: Any) -> httpx2.Response:
        """Send a request below the assignment."""
        return await self.ask(f"/assignments/mp1{path}", method, **more)

    async def done(self, path: str, method: str = "PUT", **more: Any) -> dict[str, Any]:
        """Send a request below the assignment, which must succeed."""
        answer = await self.of(path, method, **more)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def hand_in(self, student: str = "ada", *, by: str = "", **more: Any) -> httpx2.Response:
        query = "" if by else f"?student={student}"
        files = [("files", ("main.c", b"int main(void) { return 0; }"))]
        return await self.of(f"/submissions{query}", "POST", files=files, by=by, **more)

    async def set_policy(self, **policy: Any) -> None:
        await self.done("/settings", json={"points": 10, "policy": policy})

    async def set_roster(self, *entries: dict[str, Any]) -> None:
        await self.done("/roster", json={"students": list(entries)})

    async def extend(self, target: str = "student", name: str = "ada", **order: Any) -> httpx2.Response:
        return await self.of("/extensions", "POST", json={"target": target, "name": name, **order})

    async def standing(self, student: str = "ada", *, by: str = "") -> dict[str, Any]:
        answer = await self.ask(f"/students/{student}/assignments/mp1", by=by)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def give_token(self, student: str) -> None:
        answer = await self.ask("/student-tokens", "POST", json={"student": student, "name": "laptop"})
        assert answer.status_code == 201, answer.text
        self.tokens[student] = answer.json()["token"]

    @classmethod
    async def of_course(cls, client: Client, course: str) -> "Assignment":
        await client.register(course, "mp1", students=[stage()])
        return cls(client, course)

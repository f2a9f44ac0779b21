"""Files of jobs: a grader gets those of the jobs that it has received; courses and students see nothing of others."""

from dataclasses import dataclass
from hashlib import sha256
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from harness import Client, stage, token_of, until

from broadway.domain.access import SecretPrefix, new_secret
from broadway.messages.http import IDENTITY_HEADER, TICKET_HEADER
from broadway.messages.ticket import TICKETS, Tickets
from broadway.mongo.store import Store


@dataclass
class Grader:
    """A grader with a secret of its own."""

    client: Client
    name: str
    secret: str

    async def get(self, job: str, part: str, ticket: str = "") -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.secret}", **({TICKET_HEADER: ticket} if ticket else {})}
        return await self.client.http.get(f"/api/v2/graders/{self.name}/jobs/{job}/{part}", headers=headers)


@pytest.fixture
async def grader(client: Client) -> Grader:
    grader = Grader(client, f"g{token_hex(4)}", new_secret(SecretPrefix.GRADER))
    headers = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: grader.secret}
    joined = await client.http.post(f"/api/v2/graders/{grader.name}", json={"hostname": "h"}, headers=headers)
    assert joined.status_code == 200, joined.text
    return grader


async def hand_in(client: Client, course: str, student: str, content: bytes) -> dict[str, Any]:
    """Hand in a file, and return the submission with its job."""
    headers = {"Authorization": f"Bearer {token_of(course)}"}
    path = f"/api/v2/courses/{course}"
    made = await client.http.post(
        f"{path}/assignments/mp1/submissions?student={student}", files={"files": ("a", content)}, headers=headers
    )
    assert made.status_code == 201, made.text

    async def with_job() -> dict[str, Any]:
        shown = await client.http.get(f"{path}/submissions/{made.json()['id']}", headers=headers)
        return dict(shown.json()) if shown.json()["job"] else {}

    return dict(await until(with_job))


async def test_a_ticket_opens_the_files_of_its_own_job_only(
    client: Client, store: Store, course: str, grader: Grader
) -> None:
    await client.register(course, "mp1", students=[stage()])
    ada, bob = [await hand_in(client, course, student, student.encode()) for student in ("ada", "bob")]
    tickets = Tickets(await store.secrets.get(TICKETS))
    job, other = ada["job"]["id"], bob["job"]["id"]
    own, foreign = (f"1:{tickets.of(each, 1)}" for each in (job, other))

    async def status(identity: str, part: str, ticket: str) -> int:
        return (await grader.get(identity, part, ticket)).status_code

    stored = await store.jobs.get(job)
    assert stored is not None
    assert stored.generation == 1
    assert (await grader.get(job, "submission", own)).json()["submission"] == ada["id"]
    assert (await grader.get(job, f"contents/{sha256(b'ada').hexdigest()}", own)).content == b"ada"
    refused = {
        "no ticket": await status(job, "submission", ""),
        "another job's": await status(job, "submission", foreign),
        "another generation's": await status(job, "submission", f"2:{tickets.of(job, 2)}"),
        "no generation": await status(job, "submission", own.removeprefix("1:")),
        "half a ticket": await status(job, "submission", "1:"),
        "a content of another student": await status(job, f"contents/{sha256(b'bob').hexdigest()}", own),
        "a content of no file": await status(job, f"contents/{'0' * 64}", own),
        "no job": await status("0" * 24, "submission", own),
    }
    assert refused == dict.fromkeys(refused, 404)


async def test_a_course_finds_nothing_of_another_course(
    client: Client, store: Store, course: str, other_course: str, grader: Grader
) -> None:
    for each in (course, other_course):
        await client.register(each, "mp1", students=[stage()])
    secret = await hand_in(client, course, "ada", b"secret")
    own = await hand_in(client, other_course, "ada", b"own")
    headers = {"Authorization": f"Bearer {token_of(other_course)}"}
    paths = [f"submissions/{secret['id']}{part}" for part in ("", "/files/a", "/archive")]
    answers = [await client.http.get(f"/api/v2/courses/{other_course}/{path}", headers=headers) for path in paths]
    assert [answer.status_code for answer in answers] == [404] * 3
    listed = await client.http.get(f"/api/v2/courses/{other_course}/assignments/mp1/submissions", headers=headers)
    assert [each["id"] for each in listed.json()["items"]] == [own["id"]]

    # A course's staff may name any submission in a job's variables; another course's is none.
    run_id = await client.submit(
        other_course, "mp1", students=0, students_env=[{"BROADWAY_SUBMISSION": each["id"]} for each in (secret, own)]
    )
    foreign, harmless = [job["id"] for job in await client.jobs(other_course, run_id)]
    tickets = Tickets(await store.secrets.get(TICKETS))
    answers = [await grader.get(job, "submission", f"1:{tickets.of(job, 1)}") for job in (foreign, harmless)]
    assert [answer.status_code for answer in answers] == [404, 200]

"""Artifacts over HTTP: from graders that have received the job, for staff of its course, until their time ends."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from earlier_jobs import dispatched
from harness import Client, stage, token_of

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.artifacts import MAX_COUNT, MAX_SIZE
from broadway.domain.job import Attempt, Job, RetryPolicy
from broadway.ingest.commands.artifacts import MAX_OF_JOB
from broadway.ingest.commands.sweep import AnyOf
from broadway.messages.http import IDENTITY_HEADER, TICKET_HEADER
from broadway.messages.ticket import TICKETS, Tickets
from broadway.mongo.blobs import UNUSED_FOR
from broadway.mongo.store import Store

NOW = datetime.now(UTC)
FILES = {"out/plot.png": b"\x89PNG", "out/notes.txt": b"<script>"}


class Place:
    """A job, and two graders: *mine* has received the job, *other* has not."""

    def __init__(self, client: Client, store: Store, course: str, job_id: str, ticket: str) -> None:
        self.client, self.store, self.course, self.job_id, self.ticket = client, store, course, job_id, ticket
        self.secrets: dict[str, str] = {}
        self.base = f"/api/v2/courses/{course}/jobs/{job_id}"

    async def join(self, name: str) -> None:
        self.secrets[name] = new_secret(SecretPrefix.GRADER)
        headers = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: self.secrets[name]}
        answer = await self.client.http.post(f"/api/v2/graders/{name}", json={"hostname": "h"}, headers=headers)
        answer.raise_for_status()

    async def send(
        self,
        files: dict[str, bytes] | Sequence[tuple[str, bytes]] = (),
        *,
        grader: str,
        attempt: str | None = None,
        ticket: str | None = None,
        manifest: Any = None,
        **more: Any,
    ) -> httpx2.Response:
        given = list(files.items() if isinstance(files, dict) else files)
        sent = manifest or {"files": [{"path": path, "stage": 0} for path, _ in given], **more}
        form = [("files", ("manifest", json.dumps(sent))), *(("files", ("x", content)) for _, content in given)]
        headers = {"Authorization": f"Bearer {self.secrets[grader]}"}
        if shown := self.ticket if ticket is None else ticket:
            headers[TICKET_HEADER] = shown
        path = f"/api/v2/graders/{grader}/jobs/{self.job_id}/artifacts"
        query = {"attempt": attempt} if attempt else {}
        return await self.client.http.post(path, params=query, files=form, headers=headers)

    async def start(self, execution: str, grader: str) -> None:
        """Record that a grader has started the job."""
        attempt = Attempt(execution, grader, NOW)

        def move(job: Job) -> Job:
            return dispatched(job, NOW).start(
                replace(attempt, generation=job.generation), lease=timedelta(hours=1), policy=RetryPolicy(), now=NOW
            )

        await self.store.jobs.move({self.job_id: move})

    async def get(self, path: str = "", *, course: str = "", **headers: str) -> httpx2.Response:
        course = course or self.course
        return await self.client.http.get(
            f"/api/v2/courses/{course}/jobs/{self.job_id}/artifacts{path}",
            headers={"Authorization": f"Bearer {token_of(course)}", **headers},
        )

    async def listed(self, query: str = "") -> dict[str, Any]:
        answer = await self.get(query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
async def place(client: Client, store: Store, course: str) -> Place:
    await client.register(course, "mp1", students=[stage(artifacts=["out/*"])])
    run_id = await client.submit(course, "mp1", 1)
    (job,) = (await client.describe(course, run_id))["jobs"]
    ticket = Tickets(await store.secrets.get(TICKETS)).of(job["id"], 1)
    return Place(client, store, course, job["id"], f"1:{ticket}")


@pytest.fixture
async def mine(place: Place) -> str:
    name = f"mine-{token_hex(4)}"
    await place.join(name)
    return name


async def test_artifacts_of_an_attempt_are_listed_and_downloaded(place: Place, mine: str) -> None:
    left_out = [{"path": "out/big", "reason": "is larger than 10 bytes"}]
    sent = await place.send(FILES, grader=mine, attempt="e1", left_out=left_out, left_out_more=3)
    assert (sent.status_code, sent.json()) == (201, {"job": place.job_id, "attempt": "e1", "count": 2})
    assert (await place.listed())["attempt"] is None, "an execution that is not on record shows nothing"
    assert (await place.get("?attempt=e1")).status_code == 404

    await place.start("e1", mine)

    listed = await place.listed()
    assert {file["path"]: file["size"] for file in listed["files"]} == {"out/plot.png": 4, "out/notes.txt": 8}
    assert (listed["attempt"], listed["left_out"], listed["left_out_more"]) == ("e1", left_out, 3)
    kept_for = datetime.fromisoformat(listed["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29) < kept_for < timedelta(days=31)
    assert await place.listed("?attempt=e1") == listed
    got = await place.get("/out/notes.txt")
    assert (got.content, got.headers["content-type"]) == (b"<script>", "application/octet-stream")
    assert got.headers["content-disposition"].startswith("attachment;")
    assert (got.headers["x-content-type-options"], "sandbox" in got.headers["content-security-policy"]) == (
        "nosniff",
        True,
    )
    part = await place.get("/out/plot.png", Range="bytes=1-2")
    assert (part.status_code, part.content) == (206, b"PN")
    assert (await place.get("/out/big")).status_code == 404


async def test_a_repeated_request_changes_nothing(place: Place, mine: str) -> None:
    await place.start("e1", mine)
    first = await place.send(FILES, grader=mine, attempt="e1")
    second = await place.send({"out/other": b"x"}, grader=mine, attempt="e1")

    assert (first.status_code, second.status_code) == (201, 200)
    assert [file["path"] for file in (await place.listed())["files"]] == list(FILES)


async def test_only_graders_that_have_received_the_job_send_its_artifacts(place: Place, mine: str) -> None:
    other = f"other-{token_hex(4)}"
    await place.join(other)
    await place.start("e1", mine)

    for ticket in ("", "1:", f"1:{'0' * 32}", place.ticket.replace("1:", "2:", 1)):
        refused = await place.send(FILES, grader=other, attempt="e1", ticket=ticket)
        assert refused.status_code == 404, ticket
    assert (await place.send(FILES, grader=mine, ticket="")).status_code == 201, "it is stored as the one that runs it"
    assert (await place.listed())["files"] != []


async def test_artifacts_in_the_name_of_another_graders_attempt_are_not_shown(place: Place, mine: str) -> None:
    other = f"other-{token_hex(4)}"
    await place.join(other)
    await place.start("e1", mine)

    assert (await place.send(FILES, grader=other, attempt="e1")).status_code == 201, "it knows the ticket"

    assert (await place.listed())["files"] == []
    assert (await place.get("/out/plot.png")).status_code == 404
    assert (await place.send({"own": b"x"}, grader=mine, attempt="e1")).status_code == 201
    assert [file["path"] for file in (await place.listed())["files"]] == ["own"]


async def test_a_job_that_has_ended_takes_no_artifacts(place: Place, mine: str) -> None:
    await place.start("e1", mine)
    headers = {"Authorization": f"Bearer {token_of(place.course)}"}
    (await place.client.http.post(f"{place.base}/cancel", json={}, headers=headers)).raise_for_status()

    assert (await place.send(FILES, grader=mine, attempt="e1")).status_code == 404


@pytest.mark.parametrize(
    ("files", "more", "status", "expected"),
    [
        ({"../x": b""}, {}, 422, "../x: .. is not a name inside the submission"),
        ({"/etc/x": b""}, {}, 422, "/etc/x: an absolute path"),
        ([("a", b""), ("a", b"")], {}, 422, "a is there twice"),
        ({str(number): b"" for number in range(MAX_COUNT + 1)}, {}, 422, "too many files"),
        ({"a": b"x" * (MAX_SIZE + 1)}, {}, 400, f"the artifacts of a job may have {MAX_SIZE} bytes"),
        ({}, {"manifest": {"files": [{"path": "a", "stage": 0}]}}, 400, "1 paths for 0 contents"),
        ({}, {"manifest": [1]}, 400, "the body"),
        ({"a": b""}, {"manifest": {"files": [{"path": "a", "stage": -1}]}}, 400, "files.0.stage"),
        ({}, {"left_out": [{"path": "a", "reason": "b" * 201}]}, 400, "left_out.0.reason"),
        ({}, {"attempt": "a b"}, 400, "attempt"),
        ({}, {}, 404, "no such job"),
    ],
    ids=[
        "outside",
        "absolute",
        "twice",
        "many",
        "large",
        "fewer",
        "no-object",
        "stage",
        "reason",
        "attempt",
        "no-name",
    ],
)
async def test_other_artifacts_are_refused(
    place: Place, mine: str, files: Any, more: dict[str, Any], status: int, expected: str
) -> None:
    attempt = None if expected == "no such job" else "e1"
    answer = await place.send(files, grader=mine, **{"attempt": attempt, **more})

    assert (answer.status_code, expected in answer.json()["detail"]) == (status, True), answer.text
    await place.start("e1", mine)
    assert (await place.listed())["files"] == []


async def test_a_job_has_artifacts_of_a_bounded_number_of_executions(place: Place, mine: str) -> None:
    for number in range(MAX_OF_JOB):
        assert (await place.send(grader=mine, attempt=f"e{number}")).status_code == 201

    assert (await place.send(grader=mine, attempt="e0")).status_code == 200
    refused = await place.send(grader=mine, attempt="one-more")
    assert (refused.status_code, "50 executions" in refused.json()["detail"]) == (422, True)


async def test_another_course_finds_no_artifacts(place: Place, mine: str, other_course: str) -> None:
    await place.start("e1", mine)
    await place.send(FILES, grader=mine, attempt="e1")

    assert (await place.get(course=other_course)).status_code == 404
    assert (await place.get("/out/plot.png", course=other_course)).status_code == 404


async def test_contents_are_kept_as_long_as_artifacts_refer_to_them(place: Place, mine: str, store: Store) -> None:
    own = {"out/own": token_hex(8).encode()}
    await place.start("e1", mine)
    await place.send(own, grader=mine, attempt="e1")
    (file,) = (await place.listed())["files"]
    references = AnyOf((store.submissions, store.artifacts))

    assert await references.used({file["sha256"], "0" * 64}) == {file["sha256"]}
    while await store.blobs.sweep(references, datetime.now(UTC) + UNUSED_FOR + timedelta(hours=1)):
        pass
    assert (await place.get("/out/own")).content == own["out/own"]
    assert await store.artifacts.expire(datetime.now(UTC) + timedelta(days=29)) == 0
    assert await store.artifacts.expire(datetime.now(UTC) + timedelta(days=31)) > 0

    assert (await place.listed())["files"] == []
    assert await references.used({file["sha256"]}) == set()

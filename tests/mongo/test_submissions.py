"""Manifests: the latest of each student, and no content is swept while one refers to it, whatever happens meanwhile."""

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from broadway.domain.files import SubmittedFile
from broadway.domain.submission import LatestSubmission, Submission, submission_id
from broadway.mongo.collection import IDS
from broadway.mongo.store import Store

PAST = datetime(2026, 1, 1, tzinfo=UTC)
CONTENTS = [f"content {number}".encode() for number in range(20)]


@dataclass(frozen=True)
class Text:
    """A content in memory."""

    data: bytes

    @property
    def sha256(self) -> str:
        return sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


def submission(number: int, content: bytes) -> Submission:
    digest = sha256(content).hexdigest()
    return Submission(
        id=submission_id("cs", "mp1", "ada", str(number)),
        course="cs",
        assignment="mp1",
        student="ada",
        at=datetime.now(UTC),
        files=(SubmittedFile("a", digest, len(content)),),
        digest=digest,
    )


async def test_contents_of_submissions_stay_while_sweeps_and_uploads_race(store: Store) -> None:
    chance = random.Random(0)  # noqa: S311 - to repeat the test
    used: set[bytes] = set()

    async def upload(number: int) -> None:
        content = chance.choice(CONTENTS)
        await store.blobs.put([Text(content)])
        await asyncio.sleep(0)
        if chance.random() < 0.3:  # else the process died here
            await store.submissions.add(submission(number, content))
            used.add(content)

    for number in range(30):
        # As if a day had passed since the latest use of each content.
        await store.blobs._blobs.update_many({}, {"$set": {"sweep_at": PAST}})  # noqa: SLF001 - time passes
        sweep = store.blobs.sweep(store.submissions, datetime.now(UTC))
        await asyncio.gather(upload(number), sweep, upload(1000 + number), store.blobs.sweep(store.submissions, PAST))

    for content in used:
        assert await store.blobs.size(sha256(content).hexdigest()) == len(content)

    await store.blobs._blobs.update_many({}, {"$set": {"sweep_at": PAST}})  # noqa: SLF001 - time passes
    await store.blobs.sweep(store.submissions, datetime.now(UTC))
    stored = {content for content in CONTENTS if await store.blobs.size(sha256(content).hexdigest()) is not None}
    assert stored == used


@pytest.mark.parametrize("asked", [2, IDS + 1], ids=["some students", "a class"])
async def test_of_each_student_only_the_latest_submission_is_read(
    store: Store, course: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(range(10**6))

    def made(student: int, minutes: int, assignment: str = "mp1") -> Submission:
        at, identity = PAST + timedelta(minutes=minutes), f"{course}-{next(ids):06}"
        own = {"course": course, "assignment": assignment, "student": f"s{student}"}
        return replace(submission(0, b""), id=identity, at=at, **own)

    every = [made(student, minutes) for student in range(IDS + 1) for minutes in (3, 1, 3, 2)]
    for each in [*every, made(0, 9, "mp2")]:
        await store.submissions.add(each)
    read: list[object] = []
    first_of_each = store.submissions._submissions.first_of_each  # noqa: SLF001

    async def counted(*given: object, **more: object) -> object:
        found = await first_of_each(*given, **more)  # type: ignore[arg-type]
        read.extend(found)
        return found

    monkeypatch.setattr(store.submissions._submissions, "first_of_each", counted)  # noqa: SLF001
    found = await store.submissions.latest_ids(course, "mp1", {f"s{number}" for number in range(asked)} | {"absent"})

    latest = {each.student: each for each in every if each.at == PAST + timedelta(minutes=3)}  # by id, the later one
    assert found == {f"s{n}": LatestSubmission(latest[f"s{n}"].id, latest[f"s{n}"].at) for n in range(asked)}
    assert len(read) == asked

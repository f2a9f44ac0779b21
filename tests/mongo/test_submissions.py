"""Manifests and contents together: no content is swept while a submission refers to it, whatever happens meanwhile."""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from broadway.domain.files import SubmittedFile
from broadway.domain.submission import Submission, submission_id
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

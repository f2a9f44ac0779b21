"""Contents in the store: each once, whole, and there as long as something refers to it."""

import asyncio
import hashlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from broadway.mongo import blobs
from broadway.mongo.blobs import CHECKED_AGAIN, UNUSED_FOR
from broadway.mongo.store import Store
from broadway.ports import MissingContentError

NOW = datetime.now(UTC)
LATER = NOW + UNUSED_FOR + timedelta(hours=1)


@dataclass(frozen=True)
class Text:
    """A content in memory."""

    data: bytes
    digest: str = ""

    @property
    def sha256(self) -> str:
        return self.digest or hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


class Referring:
    """References to some contents."""

    def __init__(self, *digests: str) -> None:
        self.digests = set(digests)

    async def used(self, digests: AbstractSet[str]) -> set[str]:
        return self.digests & digests


@pytest.fixture(autouse=True)
async def _small_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "PART", 10)
    await store.blobs.sweep(Referring(), LATER + CHECKED_AGAIN)


async def put(store: Store, *contents: bytes) -> str:
    texts = [Text(content) for content in contents]
    await store.blobs.put(texts)
    return texts[0].sha256


async def read(store: Store, digest: str, *, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.blobs.read(digest, start=start, end=end)])


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 35])
async def test_a_content_comes_back_as_it_was_and_any_range_of_it(store: Store, size: int) -> None:
    content = bytes(range(size))
    digest = await put(store, content)

    assert await store.blobs.size(digest) == size
    assert await read(store, digest) == content
    assert await read(store, digest, start=5, end=25) == content[5:25]
    assert await read(store, digest, start=30, end=1000) == content[30:]


async def test_many_contents_are_stored_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "BATCH", 4)
    contents = [f"the content of file {number}".encode() for number in range(9)]

    await put(store, *contents)
    await put(store, *contents, b"one more")

    for content in (*contents, b"one more"):
        assert await read(store, Text(content).sha256) == content


async def test_equal_contents_are_stored_once_even_at_the_same_time(store: Store) -> None:
    content = b"the starter code of all students"

    digests = await asyncio.gather(*(put(store, content) for _ in range(8)))

    assert await read(store, digests[0]) == content
    assert await store.blobs.sweep(Referring(), LATER) == 4  # parts


async def test_a_content_that_is_not_what_it_says_is_not_stored(store: Store) -> None:
    with pytest.raises(ValueError, match="has changed"):
        await store.blobs.put([Text(b"another content", digest="0" * 64)])

    assert await store.blobs.size("0" * 64) is None


async def test_unused_contents_are_removed_after_a_day_and_used_ones_stay(store: Store) -> None:
    used, unused = await put(store, b"used, in several parts"), await put(store, b"unused, in several parts")

    assert await store.blobs.sweep(Referring(used), NOW) == 0
    assert await store.blobs.sweep(Referring(used), LATER) == 3

    assert await read(store, used) == b"used, in several parts"
    assert await store.blobs.size(unused) is None
    assert await store.blobs.sweep(Referring(), LATER + timedelta(days=1)) == 0  # not checked again before its time
    assert await store.blobs.sweep(Referring(), LATER + CHECKED_AGAIN) == 3


async def test_a_content_that_is_used_again_during_a_sweep_stays(store: Store) -> None:
    content = b"handed in again"
    digest = await put(store, content)

    class UsedMeanwhile(Referring):
        async def used(self, digests: AbstractSet[str]) -> set[str]:
            await put(store, content)
            return await super().used(digests)

    assert await store.blobs.sweep(UsedMeanwhile(), LATER) == 0
    assert await read(store, digest) == content


async def test_a_content_that_is_swept_while_it_is_used_again_is_stored_again(store: Store) -> None:
    content = b"swept just now"
    digest = await put(store, content)
    has_read = asyncio.Barrier(4)  # a sweep that reads after the use may remove the content: it is later than that

    class ReadBefore(Referring):
        async def used(self, digests: AbstractSet[str]) -> set[str]:
            await has_read.wait()
            return await super().used(digests)

    async def sweep() -> None:
        await store.blobs.sweep(ReadBefore(), LATER)

    async def use() -> None:
        await has_read.wait()
        await asyncio.gather(*(put(store, content) for _ in range(3)))

    await asyncio.gather(sweep(), sweep(), sweep(), use())

    assert await read(store, digest) == content


async def test_a_missing_part_is_an_error_and_not_a_shorter_content(store: Store) -> None:
    digest = await put(store, b"in several parts")
    await store.blobs._blobs.delete_one({"_id": f"{digest}.1"})  # noqa: SLF001 - as a damaged store

    with pytest.raises(MissingContentError, match="part 1"):
        await read(store, digest)
    with pytest.raises(MissingContentError):
        await read(store, "0" * 64)

"""Contents in the store: each once, whole, and there as long as something refers to it."""

import asyncio
import hashlib
import io
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

import pytest

from broadway.mongo import blobs
from broadway.mongo.blobs import CHECKED_AGAIN, UNUSED_FOR, MissingBlobError
from broadway.mongo.store import Store

NOW = datetime.now(UTC)
LATER = NOW + UNUSED_FOR + timedelta(hours=1)


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


async def put(store: Store, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    await store.blobs.put(digest, io.BytesIO(content), len(content))
    return digest


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


async def test_equal_contents_are_stored_once_even_at_the_same_time(store: Store) -> None:
    content = b"the starter code of all students"

    digests = await asyncio.gather(*(put(store, content) for _ in range(8)))

    assert await read(store, digests[0]) == content
    assert await store.blobs.sweep(Referring(), LATER) == 4  # parts


async def test_a_content_that_changed_while_it_was_sent_is_not_stored(store: Store) -> None:
    with pytest.raises(ValueError, match="has changed"):
        await store.blobs.put("0" * 64, io.BytesIO(b"another content"), 15)

    assert await store.blobs.size("0" * 64) is None


async def test_unused_contents_are_removed_after_a_day_and_used_ones_stay(store: Store) -> None:
    used, unused = await put(store, b"used, in several parts"), await put(store, b"unused, in several parts")

    assert await store.blobs.sweep(Referring(used), NOW) == 0
    assert await store.blobs.sweep(Referring(used), LATER) == 3

    assert await read(store, used) == b"used, in several parts"
    assert await store.blobs.size(unused) is None
    assert await store.blobs.sweep(Referring(), LATER + timedelta(days=1)) == 0  # not looked at before its time
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


async def test_a_missing_part_is_an_error_and_not_a_shorter_content(store: Store) -> None:
    digest = await put(store, b"in several parts")
    await store.blobs._blobs.delete_one({"_id": f"{digest}.1"})  # noqa: SLF001 - as a damaged store

    with pytest.raises(MissingBlobError, match="part 1"):
        await read(store, digest)
    with pytest.raises(MissingBlobError):
        await read(store, "0" * 64)

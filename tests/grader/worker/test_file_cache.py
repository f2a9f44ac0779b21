"""A grader's cache of files: within its bound, never with a wrong content, and each content is fetched once."""

import asyncio
from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path

import pytest
from harness import small_disk_at

from broadway.grader.worker.file_cache import FileCache, WrongContentError


class Source:
    """Contents by digest, which counts how often each is fetched."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {digest(content): content for content in contents}
        self.fetched: list[str] = []

    async def fetch(self, sha256: str) -> AsyncGenerator[bytes]:
        self.fetched.append(sha256)
        await asyncio.sleep(0)
        content = self.contents[sha256]
        yield content[:3]
        yield content[3:]


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def kept(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_a_content_is_fetched_once_and_copied_with_its_mode(tmp_path: Path) -> None:
    cache, source = FileCache(tmp_path / "cache", 100), Source(b"content")

    await asyncio.gather(
        *(cache.copy(digest(b"content"), tmp_path / str(number), mode=0o755, fetch=source.fetch) for number in range(5))
    )

    assert [(tmp_path / str(number)).read_bytes() for number in range(5)] == [b"content"] * 5
    assert (tmp_path / "0").stat().st_mode & 0o777 == 0o755
    assert source.fetched == [digest(b"content")]


async def test_the_least_recently_used_contents_make_room(tmp_path: Path) -> None:
    contents = [bytes([letter]) * 40 for letter in b"abc"]
    cache, source = FileCache(tmp_path / "cache", 100), Source(*contents)
    first, second, third = map(digest, contents)

    for sha in (first, second, first, third):
        await cache.copy(sha, tmp_path / "copy", mode=0o644, fetch=source.fetch)

    assert kept(tmp_path / "cache") == {first, third}
    await cache.copy(second, tmp_path / "copy", mode=0o644, fetch=source.fetch)
    assert (tmp_path / "copy").read_bytes() == contents[1]
    assert source.fetched == [first, second, third, second]


async def test_a_content_larger_than_the_bound_is_used_and_not_kept(tmp_path: Path) -> None:
    cache, source = FileCache(tmp_path / "cache", 3), Source(b"content")
    await cache.copy(digest(b"content"), tmp_path / "copy", mode=0o644, fetch=source.fetch)
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert kept(tmp_path / "cache") == set()


async def test_the_next_process_uses_the_files_and_removes_the_parts(tmp_path: Path) -> None:
    source = Source(b"content")
    await FileCache(tmp_path / "cache", 100).copy(digest(b"content"), tmp_path / "a", mode=0o644, fetch=source.fetch)
    (tmp_path / "cache" / "part-1").write_bytes(b"half")

    next_cache = FileCache(tmp_path / "cache", 100)
    await next_cache.copy(digest(b"content"), tmp_path / "b", mode=0o644, fetch=source.fetch)

    assert kept(tmp_path / "cache") == {digest(b"content")}
    assert source.fetched == [digest(b"content")]


@pytest.mark.parametrize("change", ["changed", "removed"])
async def test_a_file_that_was_changed_or_removed_is_fetched_again(tmp_path: Path, change: str) -> None:
    cache, source = FileCache(tmp_path / "cache", 100), Source(b"content")
    await cache.copy(digest(b"content"), tmp_path / "a", mode=0o644, fetch=source.fetch)
    path = tmp_path / "cache" / digest(b"content")
    if change == "changed":
        path.write_bytes(b"forgery")
    else:
        path.unlink()

    await cache.copy(digest(b"content"), tmp_path / "b", mode=0o644, fetch=source.fetch)

    assert (tmp_path / "b").read_bytes() == path.read_bytes() == b"content"
    assert len(source.fetched) == 2


async def test_wrong_bytes_of_the_source_are_not_kept(tmp_path: Path) -> None:
    cache, source = FileCache(tmp_path / "cache", 100), Source(b"content")
    source.contents[digest(b"other")] = b"content"
    with pytest.raises(WrongContentError, match="other bytes"):
        await cache.copy(digest(b"other"), tmp_path / "a", mode=0o644, fetch=source.fetch)
    assert kept(tmp_path / "cache") == set()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("is_there_before", [True, False], ids=["at-the-start", "later"])
async def test_a_directory_or_a_link_in_the_place_of_a_content_is_replaced(
    tmp_path: Path, is_there_before: bool
) -> None:
    directory, source = tmp_path / "cache", Source(b"content", b"secret")
    directory.mkdir()
    cache = None if is_there_before else FileCache(directory, 100)
    if cache:
        await cache.copy(digest(b"content"), tmp_path / "first", mode=0o644, fetch=source.fetch)
        (directory / digest(b"content")).unlink()
    (directory / digest(b"content")).mkdir()
    (directory / digest(b"content") / "inside").touch()
    (directory / digest(b"secret")).symlink_to(tmp_path / "missing")
    (directory / "note").mkdir()
    cache = cache or FileCache(directory, 100)

    for content in (b"content", b"secret"):
        await cache.copy(digest(content), tmp_path / "copy", mode=0o644, fetch=source.fetch)
        assert (tmp_path / "copy").read_bytes() == content
    assert not (tmp_path / "missing").exists()


async def test_a_full_disk_leaves_no_part_of_a_content(tmp_path: Path) -> None:
    source = Source(bytes(200_000), b"small")
    with small_disk_at(tmp_path / "disk", size=65536, inodes=10) as disk:
        cache = FileCache(disk / "cache", 1_000_000)
        with pytest.raises(OSError, match="No space left"):
            await cache.copy(digest(bytes(200_000)), tmp_path / "copy", mode=0o644, fetch=source.fetch)

        assert kept(disk / "cache") == set()
        await cache.copy(digest(b"small"), tmp_path / "copy", mode=0o644, fetch=source.fetch)

    assert (tmp_path / "copy").read_bytes() == b"small"

"""The host's canary file detects code that follows a link to it: a test of the corpus's own tools."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from hostile.conftest import Bench, Canary, Open
from hostile.corpus import Case, load
from images import HOSTILE

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded
from broadway.grader.sandbox.tree import Bounds

CASES = {case.name: case for case in load()}


@pytest.fixture(scope="module")
async def bench(open_bench: Open) -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


def naive_read(root: Path, path: str, *, limit: int) -> bytes:
    return (root / path).read_bytes()[:limit]


async def naive_neutralise(directories: Mapping[str, Path], _bounds: Bounds) -> None:
    for directory in directories.values():
        for parent, _, names in os.walk(directory):
            for name in names:
                Path(parent, name).chmod(0o644)


async def graded(case: Case, bench: Bench, canary: Canary) -> Graded:
    return await bench.run(case.stages(HOSTILE, canary.path))


@pytest.mark.parametrize("name", ["files/results-link", "files/results-directory-link"])
async def test_a_reader_that_follows_links_is_detected(
    name: str, bench: Bench, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadway.grader.grading.files.read", naive_read)

    assert (await graded(CASES[name], bench, canary)).outcome is Outcome.SUCCEEDED

    assert canary.harm == ["read"]


async def test_a_change_through_a_link_is_detected(
    bench: Bench, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadway.grader.grading.files.neutralise", naive_neutralise)

    await graded(CASES["files/set-id"], bench, canary)

    assert {"st_mode changed", "st_ctime_ns changed"} <= set(canary.harm)

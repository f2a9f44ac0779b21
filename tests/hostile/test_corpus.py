"""Every hostile submission has its outcome, leaves nothing, and disturbs no honest job beside it."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness import until
from hostile.conftest import Bench, Open
from hostile.corpus import SECRET, Case, load
from images import HOSTILE

from broadway.grader.grade import Graded
from broadway.grader.oci import NAME
from broadway.job import Outcome

CASES = load()
HONEST = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo 42"  # a few tenths of a second of computing
TRIES = 5
NOISE = 0.5  # seconds that starting a container may take longer, whoever else there is


def honest() -> list[dict[str, object]]:
    return [{"image": HOSTILE, "entrypoint": ["sh", "-c", HONEST], "networking": False, "memory": "64m", "timeout": 60}]


@pytest.fixture(scope="module")
async def runc(open_bench: Open) -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


@pytest.fixture(scope="module")
async def runsc(open_bench: Open) -> AsyncIterator[Bench]:
    async with open_bench("runsc") as bench:
        yield bench


@pytest.fixture(scope="module")
async def oci(open_bench: Open) -> AsyncIterator[Bench]:
    async with open_bench(NAME) as bench:
        yield bench


@pytest.fixture(scope="module")
async def solo(runc: Bench) -> float:
    """Seconds that an honest job takes when it is alone: the longest of a few."""
    return max([(await _timed(runc))[1] for _ in range(3)])


@pytest.fixture(scope="module")
async def solo_on_oci(oci: Bench) -> float:
    return max([(await _timed(oci))[1] for _ in range(3)])


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file of the host that nobody is to read."""
    path = tmp_path / "host-canary"
    path.write_text("secret of the host")
    os.utime(path, (0, 1))
    yield path
    assert path.stat().st_atime == 0, "somebody has read the host's file"
    assert path.read_text() == "secret of the host"


async def _timed(bench: Bench) -> tuple[Graded, float]:
    begun = time.monotonic()
    graded = await bench.run(honest())
    return graded, time.monotonic() - begun


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 90
    assert sum(case.runsc for case in CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_on_runc(case: Case, runc: Bench, solo: float, canary: Path) -> None:
    await _leaves_others_alone(case, runc, solo, canary)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_on_oci(case: Case, oci: Bench, solo_on_oci: float, canary: Path) -> None:
    await _leaves_others_alone(case, oci, solo_on_oci, canary)


@pytest.mark.parametrize("case", [case for case in CASES if case.runsc], ids=lambda case: case.name)
async def test_on_runsc(case: Case, runsc: Bench, canary: Path) -> None:
    assert canary.exists()
    _check(case, await runsc.run(case.stages(HOSTILE)), [*case.outcome, *case.outcome_runsc])
    await until(lambda: not runsc.left())


async def _leaves_others_alone(case: Case, bench: Bench, solo: float, canary: Path) -> None:
    assert canary.exists()
    for attempt in range(TRIES):
        graded, (beside, seconds) = await asyncio.gather(bench.run(case.stages(HOSTILE)), _timed(bench))
        _check(case, graded, case.outcome)
        assert (beside.outcome, beside.stdout.split()[-1]) == (Outcome.SUCCEEDED, "42")
        if seconds <= 2 * solo + NOISE:
            break
        solo = max(solo, (await _timed(bench))[1])  # others use the machine too, more now than before
        assert attempt < TRIES - 1, f"the honest job took {seconds:.1f} s, alone {solo:.1f} s"
    await until(lambda: not bench.left())


def _check(case: Case, graded: Graded, outcomes: list[Outcome] | object) -> None:
    what = f"{case.about}: {graded.outcome}, {graded.reason}, {graded.stdout[-500:]}"
    assert graded.outcome in outcomes, what  # type: ignore[operator]
    assert "exit code 66" not in graded.reason, what
    if graded.outcome is case.outcome[0]:
        assert re.search(case.reason, graded.reason), what
    assert case.log in graded.stdout, what
    assert "\0" not in graded.stdout
    assert len(graded.stdout) < 600 * 1024
    assert SECRET not in json.dumps(graded.results) + graded.reason
    scores = [entry["scores"]["score"] for entry in graded.results if "scores" in entry]
    if graded.outcome is Outcome.SUCCEEDED:
        assert scores == ([] if case.score is None else [case.score]), what
    else:
        assert scores == [], what

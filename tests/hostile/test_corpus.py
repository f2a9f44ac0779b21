"""Every hostile submission has its outcome, leaves nothing, and disturbs no honest job beside it."""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from _pytest.mark import ParameterSet
from harness import IS_WHOLE, until
from hostile.conftest import Bench, Canary, Open
from hostile.corpus import SECRET, Case, load
from hostile.neighbour import Neighbour
from images import HOSTILE

from broadway.domain.job import Outcome
from broadway.grader.grading.artifacts import Collection
from broadway.grader.grading.grade import Graded
from broadway.grader.oci.choice import OCI as NAME

CASES = load()
ENGINE_SECONDS = 2  # of CPU time; the most that a case may cost the engine's daemon
# The keys of a stage's entry in the results.
KEYS = {"data", "killed", "killed_for", "refused_results", "signal", "success", "usage", "streams", "scores", "report"}


@contextlib.asynccontextmanager
async def opened(bench: contextlib.AbstractAsyncContextManager[Bench]) -> AsyncIterator[Neighbour]:
    async with bench as opened:
        neighbour = Neighbour(opened)
        yield neighbour
        await neighbour.check(to_the_end=True)
        await until(lambda: not opened.has_kept_data())


@pytest.fixture(scope="module")
async def runc(open_bench: Open) -> AsyncIterator[Neighbour]:
    async with opened(open_bench()) as neighbour:
        yield neighbour


@pytest.fixture(scope="module")
async def oci(open_bench: Open) -> AsyncIterator[Neighbour]:
    async with opened(open_bench(NAME)) as neighbour:
        yield neighbour


@pytest.fixture(scope="module")
async def runsc(open_bench: Open) -> AsyncIterator[Neighbour]:
    async with opened(open_bench("runsc")) as neighbour:
        yield neighbour


ON_RUNC = 12  # one case in so many runs there in `make test`; its containers take three times as long as those of OCI
ON_RUNSC = 12


def shared(is_short: Callable[[int], bool], cases: Sequence[Case]) -> list[ParameterSet]:
    """Return cases as parameters; those with short numbers run in `make test`, and all of them in `make faults`.

    So each case runs on runc or on OCI for every change, and each of the two has cases of every family.
    """
    marks = [() if is_short(number) else pytest.mark.long for number in range(len(cases))]
    return [pytest.param(case, marks=each, id=case.name) for case, each in zip(cases, marks, strict=True)]


FOR_RUNC = shared(lambda number: number % ON_RUNC == 0, CASES)
FOR_OCI = shared(lambda number: number % ON_RUNC != 0, CASES)
FOR_RUNSC = shared(lambda number: number % ON_RUNSC == 0, [case for case in CASES if case.runsc])


def test_each_runtime_has_short_cases_of_every_family() -> None:
    short = [[param for param in params if not param.marks] for params in (FOR_RUNC, FOR_OCI)]
    families = [{str(param.id).partition("/")[0] for param in each} for each in short]
    assert families[0] == families[1]
    assert {param.id for each in short for param in each} == {case.name for case in CASES}


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 90
    assert sum(case.runsc for case in CASES) >= 30
    families = {case.name.partition("/")[0] for case in CASES}
    assert families == {
        *("processes", "time", "memory", "disk", "output", "files", "results", "escape", "forgery", "uploads"),
        *("programs", "kinds", "artifacts"),
    }


@pytest.mark.parametrize("case", FOR_RUNC)
async def test_a_case_harms_no_other_job_on_runc(case: Case, runc: Neighbour, canary: Canary) -> None:
    await _harms_no_other_job(case, runc, canary, case.outcome)


@pytest.mark.parametrize("case", FOR_OCI)
async def test_a_case_harms_no_other_job_on_oci(case: Case, oci: Neighbour, canary: Canary) -> None:
    await _harms_no_other_job(case, oci, canary, case.outcome)


@pytest.mark.parametrize("case", FOR_RUNSC)
async def test_a_case_harms_no_other_job_on_runsc(case: Case, runsc: Neighbour, canary: Canary) -> None:
    await _harms_no_other_job(case, runsc, canary, [*case.outcome, *case.outcome_runsc])


async def _harms_no_other_job(case: Case, neighbour: Neighbour, canary: Canary, outcomes: Sequence[Outcome]) -> None:
    bench = neighbour.bench
    stages, before = case.stages(HOSTILE, canary.path), bench.engine_seconds()
    with neighbour.beside(case.name):
        graded = await bench.run(stages, collection := Collection())
    assert sorted(collection.files) == sorted(case.kept)
    assert re.search(case.left_out, collection.note), collection.note
    _check(case, graded, [*outcomes, *([] if IS_WHOLE else case.outcome_busy)])
    await until(lambda: not bench.left())
    spent = bench.engine_seconds() - before
    assert spent <= ENGINE_SECONDS, f"the engine's daemon has computed for {spent:.1f} s"
    await neighbour.check()
    assert canary.harm == []


def _check(case: Case, graded: Graded, outcomes: Sequence[Outcome]) -> None:
    description = f"{case.about}: {graded.outcome}, {graded.reason}, {graded.stdout[-500:]}"
    assert graded.outcome in outcomes, description
    assert "exit code 66" not in graded.reason, description
    if graded.outcome is case.outcome[0]:
        assert re.search(case.reason, graded.reason), description
    assert case.log in graded.stdout, description
    assert "\0" not in graded.stdout
    assert len(graded.stdout) < 600 * 1024
    assert SECRET not in json.dumps([result.entry() for result in graded.results]) + graded.reason
    _check_scores(case, graded, description)


def _check_scores(case: Case, graded: Graded, description: str) -> None:
    entries = [result.entry() for result in graded.results]
    assert all(entry.keys() <= KEYS for entry in entries), "what a student writes becomes no field of ours"
    scores = [entry["scores"] for entry in entries if "scores" in entry]
    expected = [] if case.score is None or graded.outcome is not Outcome.SUCCEEDED else [case.score]
    assert [each["score"] for each in scores] == expected, description
    for each in scores:
        if case.has_report:
            assert each["document"] is None
            continue
        assert each.keys() == {"score", "max_score", "document"}
        assert each["document"].isascii(), "kept as a text that nothing on its way can take for anything else"
        assert each["document"].isprintable()
        assert isinstance(json.loads(each["document"]), dict)

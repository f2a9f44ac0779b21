"""The machinery of the benchmarks sums, compares, judges and reports figures correctly."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.__main__ import SUITES
from benchmarks.goals import goals
from benchmarks.kernel import Kernel
from benchmarks.machine import cpu_seconds, describe, resident, spending
from benchmarks.plan import DEFAULT, FULL, Plan
from benchmarks.report import as_json, write_document
from benchmarks.rounds import interleave
from benchmarks.runtimes import FailedError
from benchmarks.samples import Figure, MissingError, Results, Summary
from benchmarks.startup import HELP, show_help
from benchmarks.verdicts import Goal, Verdict, judge
from broadway.grader.oci.groups import OURS
from broadway.grader.sandbox.cgroups import ROOT

SPEED = Figure("speed", "1/s")
ABOUT = {"cores": "2"}


def measured(**contenders: list[float]) -> Results:
    results = Results()
    for name, values in contenders.items():
        for value in values:
            results.add(name, {SPEED: value})
    return results


def goal(bound: float, *, is_floor: bool = True) -> Goal:
    return Goal("suite", "ours of theirs", lambda r: r.ratio(SPEED, "ours", "theirs"), bound, is_floor)


def test_a_summary_is_the_median_and_the_quartiles() -> None:
    assert Summary.of([5, 1, 4, 2, 3]) == Summary(median=3, low=2, high=4, count=5)
    assert Summary.of([7]) == Summary(median=7, low=7, high=7, count=1)


def test_a_ratio_compares_within_rounds() -> None:
    """In the second round the machine was ten times slower, for both."""
    results = measured(ours=[200, 20, 200], theirs=[100, 10, 1000])

    assert results.ratio(SPEED, "ours", "theirs") == 2


def test_a_missing_figure_has_a_reason() -> None:
    results = measured(ours=[1])
    results.fail("theirs", "not installed")

    with pytest.raises(MissingError, match="no speed of theirs: not installed"):
        results.ratio(SPEED, "ours", "theirs")


async def test_contenders_take_turns_and_a_failing_one_is_left_out() -> None:
    order: list[str] = []
    results = Results()

    async def good() -> Mapping[Figure, float]:
        order.append("good")
        return {SPEED: len(order)}

    async def bad() -> Mapping[Figure, float]:
        order.append("bad")
        if order.count("bad") > 2:
            raise OSError("broken")
        return {SPEED: 1}

    await interleave({"good": good, "bad": bad}, rounds=3, into=results)

    assert order == ["good", "bad", "good", "bad", "bad", "good", "good"]
    assert len(results.of(SPEED, "good")) == 3
    assert results.problems == {"bad": "OSError: broken"}


@pytest.mark.parametrize(
    ("bound", "is_floor", "word"),
    [(2, True, "met"), (2.1, True, "not met"), (2, False, "met"), (1.9, False, "not met")],
)
def test_a_goal_is_met_at_its_bound(bound: float, is_floor: bool, word: str) -> None:
    (verdict,) = judge([goal(bound, is_floor=is_floor)], measured(ours=[2], theirs=[1]))

    assert verdict.word == word
    assert f"{bound:g}" in str(verdict)


def test_a_goal_without_numbers_is_neither_met_nor_unmet() -> None:
    (verdict,) = judge([goal(1)], Results())

    assert verdict.word == "could not be measured"
    assert not verdict.is_met


@pytest.mark.parametrize("plan", [DEFAULT, FULL])
def test_every_goal_belongs_to_a_suite_and_has_no_figure_without_measurements(plan: Plan) -> None:
    verdicts = judge(goals(plan), Results())

    assert {verdict.goal.suite for verdict in verdicts} <= SUITES.keys()
    assert all(verdict.measured is None for verdict in verdicts)
    assert len({verdict.goal.name for verdict in verdicts}) == len(verdicts)


def test_a_document_keeps_its_prose(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    results = measured(ours=[2, 4], theirs=[1])
    results.notes["speed"] = "downhill"

    write_document(document, judge([goal(1.5)], results), results, ABOUT)
    write_document(document, judge([goal(1.5)], results), results, ABOUT)

    text = document.read_text()
    assert text.startswith("before\n<!-- measured: begin -->")
    assert text.endswith("<!-- measured: end -->\nafter\n")
    assert "old" not in text
    assert text.count("| ours of theirs | 2 | at least 1.5 | met |") == 1
    assert "| ours | 3 | 2.5 to 3.5 | 2 |" in text
    assert "* speed: downhill." in text


def test_a_document_without_markers_is_an_error(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("prose")

    with pytest.raises(ValueError, match="expected <!-- measured: begin -->"):
        write_document(document, [], Results(), ABOUT)


def test_the_json_has_goals_samples_and_the_machine() -> None:
    results = measured(ours=[2], theirs=[1])
    results.fail("them", "away")

    found = json.loads(as_json([Verdict(goal(1), 2.0)], results, describe()))

    assert found["goals"] == [
        {"goal": "ours of theirs", "measured": 2.0, "bound": "at least 1", "verdict": "met", "problem": ""}
    ]
    assert found["figures"][0]["samples"] == [2]
    assert found["problems"] == {"them": "away"}
    assert int(found["about"]["cores"]) > 0


def test_a_block_that_computes_uses_processor_time() -> None:
    before = cpu_seconds(os.getpid())
    with spending() as spent:
        while cpu_seconds(os.getpid()) - before < 0.1:
            sum(range(10_000))

    assert spent.wall > 0.05
    assert spent.cpu > 0.05
    assert resident(os.getpid()) > 10


async def test_a_small_benchmark_runs() -> None:
    results = Results()

    await interleave({"Broadway": show_help}, rounds=2, into=results, warm_up=False)

    assert not results.problems
    assert len(results.of(HELP, "Broadway")) == 2


async def test_the_kernels_part_runs_programs_and_leaves_nothing(tmp_path: Path) -> None:
    floor = await asyncio.to_thread(Kernel.prepared, tmp_path)

    await floor.job(("true",), ("true",))
    with pytest.raises(FailedError, match="false: exit code 1"):
        await floor.stage("false")

    assert [path.name for path in tmp_path.iterdir()] == ["image"]
    own = f"{OURS}/bench-floor-{os.getpid()}-*"
    assert [*ROOT.glob(own), *ROOT.glob(f"*/{own}")] == []

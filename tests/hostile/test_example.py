"""The example of docs/untrusted-code.md runs as it stands: a right answer scores, and a wrong one that looks cannot."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hostile.conftest import Bench, Open
from images import HOSTILE

from broadway.domain.assignment import AssignmentConfig, prepare_stages
from broadway.domain.job import Outcome

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "untrusted.json"
DOCUMENT = ROOT / "docs" / "untrusted-code.md"


@pytest.fixture(scope="module")
async def bench(open_bench: Open) -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


@pytest.mark.parametrize(
    ("submission", "score"),
    [("echo $((6 * 7))", 1), ("cat /job/tests/expected || echo 54", 0), ("echo 42 >/job/results.json; true", 0)],
)
async def test_only_a_right_answer_scores(bench: Bench, submission: str, score: int) -> None:
    config = AssignmentConfig.model_validate_json(EXAMPLE.read_text()).as_posted()
    stages = prepare_stages(
        [{**stage, "image": HOSTILE} for stage in config["student_pipeline"]],  # it has busybox, too
        shared=config["env"],
        job_env={"STUDENT_ID": "ada", "SUBMISSION": submission},
        run_id="run",
        job_id="job",
    )
    graded = await bench.run(stages)

    assert (graded.outcome, graded.reason) == (Outcome.SUCCEEDED, "")
    assert graded.results[-1].scores is not None
    assert graded.results[-1].scores.score == score


def test_the_document_shows_the_example_and_runs_its_submissions() -> None:
    text = DOCUMENT.read_text()

    assert f"```json\n{EXAMPLE.read_text()}```" in text
    assert json.dumps({"STUDENT_ID": "ada", "SUBMISSION": "echo $((6 * 7))"}) in text

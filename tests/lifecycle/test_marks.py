"""The marks of an execution: those of the report that is shown for it."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from broadway.domain.job import Outcome
from broadway.domain.marks import Marks
from broadway.domain.report import Source, Visibility
from broadway.lifecycle.reports import marks_of, without_reports
from broadway.messages.events import JobFinished

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def entry(score: int, source: str = "junit", **more: Any) -> dict[str, Any]:
    report = {"schema": 1, "source": source, "score": str(score), "max": "10", **more}
    return {"success": True, "report": {"report": report}, "scores": {"score": 99}}


PROBLEM = {"success": False, "report": {"problem": "out.xml: there is no such file"}}
SCORES = {"success": True, "scores": {"score": 0.5, "max_score": 2, "document": '{"score": 0.5}'}}
FOUR = Marks(Source.JUNIT, Decimal(4), Decimal(10))


@pytest.mark.parametrize(
    ("results", "marks"),
    [
        ([entry(3), {"success": True}, entry(4)], FOUR),
        ([entry(4), {"success": None}], FOUR),
        ([entry(4), SCORES], FOUR),
        ([entry(4), PROBLEM], Marks()),
        ([{"success": True}], Marks()),
        ([SCORES, {"success": True}], Marks(Source.GRADESCOPE, Decimal("0.5"), Decimal(2))),
        ([{"success": True, "report": "nonsense", "scores": {"score": 1}}], Marks()),
        (
            [entry(4, visibility="hidden")],
            Marks(Source.JUNIT, Decimal(4), Decimal(10), visibilities=(Visibility.HIDDEN,)),
        ),
        ([entry(4, gradable=False)], Marks(Source.JUNIT, Decimal(4), Decimal(10), gradable=False)),
        ([{"result": "the results cannot be stored"}], None),
        ([], None),
    ],
    ids=[
        "the last stage counts",
        "a stage that did not run",
        "a report before scores",
        "a problem hides earlier reports",
        "no report",
        "scores without a report",
        "an invalid report",
        "hidden",
        "not gradable",
        "refused results",
        "no stage",
    ],
)
def test_marks_of_an_execution(results: list[dict[str, Any]], marks: Marks | None) -> None:
    event = JobFinished(
        course="cs1",
        run_id="r",
        job_id="j",
        generation=1,
        execution_id="e",
        grader_id="g",
        started_at=NOW,
        finished_at=NOW,
        outcome=Outcome.SUCCEEDED,
        results=results,
    )

    assert marks_of(*without_reports([event])) == ({"e": marks} if marks else {})

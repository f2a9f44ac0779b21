"""The fields of an outcome from which grades are computed.

They are a list of plain values, since a class has many thousands of them, and a store takes twice as long for documents
in each other.
"""

import sys
from decimal import Decimal

from broadway.domain.handed_in import HandedIn
from broadway.domain.job import Outcome
from broadway.domain.marks import Marks
from broadway.domain.report import Source, shown
from broadway.domain.result import StageResult
from broadway.domain.results_of_work import Result
from broadway.domain.settlement import Settlement
from broadway.mongo.collection import Document

FIELDS = dict.fromkeys(("student", "work", "outcome", "finished_at", "execution_id"), 1)


def work_fields(settlement: Settlement) -> Document:
    """Return the fields of an outcome; none for a job that grades no student's work."""
    handed_in = settlement.handed_in
    if handed_in is None:
        return {}
    marks = next((each.marks for each in settlement.attempts if each.execution_id == settlement.execution_id), None)
    points = [None] * 4 if marks is None else [_source(marks), _text(marks.score), _text(marks.max), marks.gradable]
    work = [handed_in.id, handed_in.at, handed_in.config, handed_in.regrade, " ".join(_images(settlement)), *points]
    return {"assignment": settlement.assignment, "student": handed_in.student, "work": work}


def result_of(document: Document) -> Result:
    """Return the result in an outcome with these fields."""
    job, _, generation = str(document["_id"]).rpartition(":")
    identity, at, config, regrade, images, *points = document["work"]
    return Result(
        handed_in=HandedIn(identity, document["student"], at, sys.intern(config), regrade),
        job=job,
        generation=int(generation),
        outcome=Outcome(document["outcome"]),
        finished_at=document["finished_at"],
        execution=document["execution_id"],
        marks=_marks(*points[:4]),
        images=tuple(map(sys.intern, images.split())),
    )


def _marks(source: str | None, score: str | None, limit: str | None, gradable: bool | None) -> Marks | None:
    """Return stored marks without visibilities, which do not change a grade; None if they are unknown."""
    if source is None:
        return None
    if not source:
        return Marks()
    score_, limit_ = (None if each is None else Decimal(each) for each in (score, limit))
    return Marks(Source(source), score_, limit_, gradable is not False)


def _source(marks: Marks) -> str:
    return marks.source.value if marks.source else ""


def _text(points: Decimal | None) -> str | None:
    return None if points is None else shown(points)


def _images(settlement: Settlement) -> list[str]:
    """Return the digests of the images that the stages ran, each once."""
    usages = [StageResult.read(entry).usage for entry in settlement.results or ()]
    return list(dict.fromkeys(usage.image for usage in usages if usage and usage.image and " " not in usage.image))

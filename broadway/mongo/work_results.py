"""The collection ``work_result``: the outcomes of students' works, without logs and results, to compute grades of.

A document is inserted after the outcome of a job's generation, with the same id, and before the job is updated. So each
finished job has it, whatever crashed meanwhile. It is small and flat: a class has many thousands of them.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from broadway.domain.handed_in import HandedIn
from broadway.domain.job import Job, Outcome
from broadway.domain.marks import Marks
from broadway.domain.report import Source, shown
from broadway.domain.results_of_work import Result
from broadway.domain.settlement import Settlement
from broadway.mongo.collection import Collection, Document, Documents, insert_each
from broadway.runtime.threads import beside


class WorkResults:
    """Results of works, by job and generation."""

    def __init__(self, collection: Collection) -> None:
        self._results = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._results.create_index([("course", 1), ("assignment", 1), ("student", 1)], name="of_student")
        await self._results.create_index([("course", 1), ("assignment", 1), ("finished_at", 1)], name="of_assignment")

    async def keep(self, ended: Iterable[tuple[Job, Settlement]]) -> None:
        """Store the outcomes of jobs that grade students' works; one that is stored already stays as it is."""
        documents = [document for job, settlement in ended if (document := _document(job, settlement))]
        if documents:
            await insert_each(self._results, documents)

    async def find(
        self, course: str, assignment: str, students: Sequence[str] | None = None, *, since: datetime | None = None
    ) -> list[Result]:
        """Return the results of works for an assignment: all, those of some students, or those since a time."""
        query: Document = {"course": course, "assignment": assignment}
        if students is not None:
            query["student"] = {"$in": list(students)}
        if since is not None:
            query["finished_at"] = {"$gte": since}
        found = await self._results.find(query)
        return await beside(len(found), _results, found)


def _document(job: Job, settlement: Settlement) -> Document | None:
    """Return the document of an outcome; None if the job grades no student's work."""
    handed_in = job.handed_in
    if handed_in is None:
        return None
    marks = next((each.marks for each in settlement.attempts if each.execution_id == settlement.execution_id), None)
    return {
        "_id": settlement.key,
        "course": job.course,
        "assignment": job.assignment,
        "student": handed_in.student,
        "work": handed_in.id,
        "at": handed_in.at,
        "config": handed_in.config,
        "regrade": handed_in.regrade,
        "outcome": settlement.outcome.value,
        "finished_at": settlement.finished_at,
        "execution": settlement.execution_id,
        "images": " ".join(settlement.images),
        "marks": None if marks is None else _plain(marks),
    }


def _results(documents: Sequence[Document]) -> list[Result]:
    return [_result(each) for each in documents]


def _result(document: Document) -> Result:
    job, _, generation = str(document["_id"]).rpartition(":")
    config, regrade = sys.intern(document["config"]), document["regrade"]
    return Result(
        handed_in=HandedIn(document["work"], document["student"], document["at"], config, regrade),
        job=job,
        generation=int(generation),
        outcome=Outcome(document["outcome"]),
        finished_at=document["finished_at"],
        execution=document["execution"],
        marks=_marks(document["marks"]),
        images=tuple(map(sys.intern, document["images"].split())),
    )


def _plain(marks: Marks) -> list[Any]:
    """Return marks for storing, without visibilities, which do not change a grade; empty without a report."""
    return [marks.source.value, _text(marks.score), _text(marks.max), marks.gradable] if marks.source else []


def _marks(stored: list[Any] | None) -> Marks | None:
    if not stored:
        return None if stored is None else Marks()
    source, score, limit, gradable = stored
    score, limit = (None if each is None else Decimal(each) for each in (score, limit))
    return Marks(Source(source), score, limit, gradable)


def _text(points: Decimal | None) -> str | None:
    return None if points is None else shown(points)

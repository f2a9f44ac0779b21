"""The collection ``work_result``: the outcomes of students' works, without logs and results, to compute grades of.

A document is inserted after the outcome of a job's generation, with the same id, and before the job is updated. So each
finished job has it, whatever crashed meanwhile. It is small and flat: a class has many thousands of them.

The upload that it names is marked then, so that readers of a class need one document for each upload. An upload that
the outcome names by another student or time than its own is not marked, and neither is one whose outcome a recorder of
an earlier version stored.
"""

import asyncio
import itertools
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC
from decimal import Decimal
from functools import lru_cache
from typing import Any

from pymongo import UpdateOne

from broadway.domain.handed_in import HandedIn
from broadway.domain.job import Job, Outcome
from broadway.domain.marks import Marks
from broadway.domain.report import Source, shown
from broadway.domain.results_of_work import ALL, Among, Result
from broadway.domain.settlement import Settlement
from broadway.mongo.collection import Collection, Document, Documents, insert_each
from broadway.runtime.crashpoints import Point, reach
from broadway.runtime.threads import beside

GRADED = "graded"  # of an upload: its result is stored

_OUTCOMES = {each.value: each for each in Outcome}
_SOURCES = {each.value: each for each in Source}


class WorkResults:
    """Results of works, by job and generation."""

    def __init__(self, collection: Collection, submissions: Collection) -> None:
        plain = collection.codec_options.with_options(tz_aware=False)
        self._results = Documents(collection.with_options(codec_options=plain))
        self._submissions = Documents(submissions)

    async def ensure_indexes(self) -> None:
        await self._results.create_index([("course", 1), ("assignment", 1), ("student", 1)], name="of_student")
        await self._results.create_index([("course", 1), ("assignment", 1), ("finished_at", 1)], name="of_assignment")

    async def keep(self, ended: Iterable[tuple[Job, Settlement]]) -> None:
        """Store the outcomes of jobs that grade students' works; one that is stored already stays as it is."""
        documents = [document for job, settlement in ended if (document := _document(job, settlement))]
        if documents:
            await insert_each(self._results, documents)
        await reach(Point.OUTCOME_OF_WORK_STORED)
        if marks := [_mark(each) for each in documents if _may_be_of_upload(each)]:
            await self._submissions.bulk_write(marks, ordered=False)

    async def find(self, course: str, assignment: str, among: Among = ALL) -> list[Result]:
        """Return the results of works for an assignment. One answer is read while the next one is asked for."""
        reading: list[asyncio.Task[list[Result]]] = []
        async with asyncio.TaskGroup() as group:
            for query in queries(course, assignment, among, time="finished_at"):
                documents = await self._results.find(query)
                reading.append(group.create_task(beside(len(documents), _results, documents)))
        return [each for part in reading for each in part.result()]


def queries(course: str, assignment: str, among: Among, *, time: str) -> list[Document]:
    """Return the queries for works, one for each part of the class; ``time`` is the field of their times."""
    query: Document = {"course": course, "assignment": assignment}
    if among.students is not None:
        return [{**query, "student": {"$in": list(among.students)}}]
    if among.since is not None:
        return [{**query, time: {"$gte": among.since}}]
    if not among.cuts:
        return [query]
    cuts = sorted(among.cuts)
    ranges = [{"$lt": cuts[0]}, *({"$gte": a, "$lt": b} for a, b in itertools.pairwise(cuts)), {"$gte": cuts[-1]}]
    return [{**query, "student": each} for each in ranges]


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


def _may_be_of_upload(document: Document) -> bool:
    """Return whether a result may be that of an upload, and counts without a regrade; a push has its job's id."""
    return not document["regrade"] and document["work"] != str(document["_id"]).partition(":")[0]


def _mark(document: Document) -> UpdateOne:
    own = {name: document[name] for name in ("course", "assignment", "student", "at")}
    return UpdateOne({"_id": document["work"], **own, GRADED: None}, {"$set": {GRADED: True}})


def _results(documents: Sequence[Document]) -> list[Result]:
    return [_result(each) for each in documents]


def _result(document: Document) -> Result:
    job, _, generation = document["_id"].rpartition(":")
    config, regrade = sys.intern(document["config"]), document["regrade"]
    return Result(
        HandedIn(document["work"], document["student"], document["at"].replace(tzinfo=UTC), config, regrade),
        job,
        int(generation),
        _OUTCOMES[document["outcome"]],
        document["finished_at"].replace(tzinfo=UTC),
        document["execution"],
        _marks(document["marks"]),
        _images(document["images"]),
    )


@lru_cache
def _images(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _plain(marks: Marks) -> list[Any]:
    """Return marks for storing, without visibilities, which do not change a grade; empty without a report."""
    return [marks.source.value, _text(marks.score), _text(marks.max), marks.gradable] if marks.source else []


def _marks(stored: list[Any] | None) -> Marks | None:
    return None if stored is None else _known_marks(*stored)


@lru_cache(maxsize=4096)
def _known_marks(
    source: str | None = None, score: str | None = None, limit: str | None = None, gradable: bool = True
) -> Marks:
    """Return the marks with these values, which many works of a class share."""
    if source is None:
        return Marks()
    points, most = (None if each is None else Decimal(each) for each in (score, limit))
    return Marks(_SOURCES[source], points, most, gradable)


def _text(points: Decimal | None) -> str | None:
    return None if points is None else shown(points)

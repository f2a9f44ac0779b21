"""The students' works of an assignment with their results, read in few questions, without logs, results and reports."""

from collections.abc import Sequence

from broadway.domain.handed_in import HandedIn
from broadway.domain.job import JobState, Outcome
from broadway.domain.results_of_work import Receipt, Result
from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.job_documents import handed_in_of, marks_of

_RECEIPT = {"student": 1, "at": 1}
_RESULT = dict.fromkeys(
    (
        "grading_job_id",
        "generation",
        "outcome",
        "finished_at",
        "execution_id",
        "handed_in",
        "images",
        "attempts.execution_id",
        "attempts.marks",
    ),
    1,
)
_OPEN = [state.value for state in JobState if state is not JobState.FINISHED]


class GradedWorks:
    """Receipts of uploads, outcomes of jobs, and open jobs, by the assignment that they belong to."""

    def __init__(self, submissions: Collection, outcomes: Collection, jobs: Collection) -> None:
        self._submissions = Documents(submissions)
        self._outcomes = Documents(outcomes)
        self._jobs = Documents(jobs)

    async def receipts(self, course: str, assignment: str, students: Sequence[str] | None = None) -> list[Receipt]:
        """Return the receipts of all uploads for an assignment, or of those of some students."""
        query: Document = {"course": course, "assignment": assignment, **_of("student", students)}
        found = await self._submissions.find(query, _RECEIPT)
        return [Receipt(each["_id"], each["student"], each["at"]) for each in found]

    async def results(self, course: str, assignment: str, students: Sequence[str] | None = None) -> list[Result]:
        """Return the results of all works for an assignment, or of those of some students."""
        query: Document = {"course": course, "assignment": assignment, **_of("handed_in.student", students)}
        found = await self._outcomes.find(query, _RESULT)
        return [result for each in found if (result := _result(each))]

    async def waiting(self, course: str, assignment: str) -> list[HandedIn]:
        """Return the works of an assignment's jobs that have not ended."""
        found: list[Document] = []
        for state in _OPEN:
            found += await self._jobs.find({"course": course, "state": state}, {"assignment": 1, "handed_in": 1})
        own = [each for each in found if each.get("assignment") == assignment]
        return [handed_in for each in own if (handed_in := handed_in_of(each.get("handed_in")))]


def _of(key: str, students: Sequence[str] | None) -> Document:
    return {} if students is None else {key: {"$in": list(students)}}


def _result(document: Document) -> Result | None:
    handed_in, execution = handed_in_of(document.get("handed_in")), document.get("execution_id")
    if handed_in is None:
        return None
    attempts = document.get("attempts") or ()
    ending: Document = next((each for each in attempts if each.get("execution_id") == execution), {})
    return Result(
        handed_in=handed_in,
        job=document["grading_job_id"],
        generation=document["generation"],
        outcome=Outcome(document["outcome"]),
        finished_at=document["finished_at"],
        execution=execution,
        marks=marks_of(ending.get("marks")),
        images=tuple(document.get("images") or ()),
    )

"""The students' works of an assignment with their results, read in few questions, without logs, results and reports."""

from collections.abc import Sequence

from broadway.domain.handed_in import HandedIn
from broadway.domain.results_of_work import ALL, Among, Receipt, Result
from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.job_documents import OPEN, handed_in_of
from broadway.mongo.work_results import GRADED, WorkResults, queries

_RECEIPT = {"student": 1, "at": 1}


class GradedWorks:
    """Receipts of uploads, results of jobs, and open jobs, by the assignment that they belong to."""

    def __init__(self, submissions: Collection, results: WorkResults, jobs: Collection) -> None:
        self._submissions = Documents(submissions)
        self._results = results
        self._jobs = Documents(jobs)

    async def receipts(self, course: str, assignment: str, among: Among = ALL) -> list[Receipt]:
        """Return the receipts of uploads for an assignment.

        If all are asked for, those whose result the recorder has stored are left out; results are to be read after it.
        """
        found: list[Receipt] = []
        are_all = among.students is None and among.since is None
        for query in queries(course, assignment, among, time="at"):
            documents = await self._submissions.find({**query, GRADED: None} if are_all else query, _RECEIPT)
            found += [Receipt(each["_id"], each["student"], each["at"]) for each in documents]
        return found

    async def receipts_of(self, course: str, assignment: str, works: Sequence[str]) -> list[Receipt]:
        """Return the receipts of some uploads for an assignment, by their ids."""
        found = await self._submissions.find_by_ids(works, {**_RECEIPT, "course": 1, "assignment": 1})
        own = [each for each in found if (each["course"], each["assignment"]) == (course, assignment)]
        return [Receipt(each["_id"], each["student"], each["at"]) for each in own]

    async def results(self, course: str, assignment: str, among: Among = ALL) -> list[Result]:
        """Return the results of works for an assignment."""
        return await self._results.find(course, assignment, among)

    async def waiting(self, course: str, assignment: str) -> list[HandedIn]:
        """Return the works of an assignment's jobs that have not ended."""
        own = {"assignment": {"$eq": assignment}, "handed_in": {"$ne": None}}
        found: list[Document] = []
        for state in OPEN:
            found += await self._jobs.find_of({"course": course, "state": state}, own, {"handed_in": 1})
        return [handed_in for each in found if (handed_in := handed_in_of(each.get("handed_in")))]

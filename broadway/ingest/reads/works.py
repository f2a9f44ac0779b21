"""Reads of the works of an assignment, each with the result that counts, for the grades of its students."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from broadway.domain.assignment_settings import AssignmentSettings, Start
from broadway.domain.handed_in import HandedIn
from broadway.domain.job import Job, Outcome, Phase
from broadway.domain.results_of_work import Among, Graded, Receipt, Result, graded, unlike_works
from broadway.domain.run import job_id
from broadway.domain.submission import UPLOADS
from broadway.domain.webhook import Delivery, DeliveryState, delivery_key
from broadway.domain.work import OWN, graded_attempt
from broadway.ingest.reads.reports import stored_marks
from broadway.ingest.reads.stores import ReportQueries
from broadway.lifecycle.stores import JobsById

PublishedExecutions = Callable[[str, str], Awaitable[AbstractSet[str]]]

_UNDECIDED = DeliveryState.RECEIVED


class WorkQueries(Protocol):
    """Queries on works and their results."""

    async def receipts(self, course: str, assignment: str, among: Among) -> list[Receipt]:
        """Return the receipts of uploads, in any order.

        Of all, those whose result is stored are left out, since the result names them; so it is to be read later.
        """

    async def receipts_of(self, course: str, assignment: str, works: Sequence[str]) -> list[Receipt]:
        """Return the receipts of some uploads by their ids; unknown ids are left out."""

    async def results(self, course: str, assignment: str, among: Among) -> list[Result]:
        """Return the results of works, in any order; a work has one for each generation of each of its jobs.

        Those that a recorder of an earlier version has stored are left out.
        """

    async def waiting(self, course: str, assignment: str) -> list[HandedIn]:
        """Return the works of jobs that have not ended, of all students."""


class DeliveriesById(Protocol):
    """Deliveries, many at a time."""

    async def get_many(self, identities: Sequence[str]) -> dict[str, Delivery]:
        """Return deliveries by id, without bodies; unknown ids are left out."""


@dataclass(frozen=True, slots=True)
class WorkReads:
    """Reads of the works of any assignment."""

    works: WorkQueries
    deliveries: DeliveriesById
    jobs: JobsById
    reports: ReportQueries

    async def of_assignment(
        self,
        course: str,
        assignment: str,
        settings: AssignmentSettings,
        *,
        students: Sequence[str] | None = None,
        cuts: Sequence[str] = (),
        published: PublishedExecutions,
    ) -> list[Graded]:
        """Return the works of an assignment.

        Args:
            course: The course.
            assignment: The assignment.
            settings: The assignment's settings.
            students: The students and groups whose works to return; all if None.
            cuts: Names of students between which all are read in parts.
            published: Returns the executions of the published grades, which decide whether results of regrades count.
        """
        waiting = await self.works.waiting(course, assignment)  # first: a job that ends meanwhile has a result then
        if students is not None:
            waiting = [each for each in waiting if each.student in students]
        among = Among(None if students is None else tuple(students), cuts=tuple(cuts))
        receipts = await self.works.receipts(course, assignment, among)
        results = await self.works.results(course, assignment, among)
        if unlike := unlike_works(receipts, results):
            receipts = [*receipts, *await self.works.receipts_of(course, assignment, sorted(unlike))]
        known = {each.handed_in.id for each in results if not each.handed_in.regrade} | {each.id for each in waiting}
        missing = [each for each in receipts if each.id not in known]
        if missing and settings.starts is Start.AT_ONCE:
            results += await self._by_deliveries(course, assignment, missing)
        found = [each if each.marks is not None else await self._with_marks(each) for each in results]
        has_regrades = any(each.handed_in.regrade for each in found)
        executions = await published(course, assignment) if has_regrades else frozenset()
        return graded(receipts, found, waiting, points=settings.points, published=executions)

    async def submitters(self, course: str, assignment: str, students: Collection[str]) -> set[str]:
        """Return those of some students and groups who have submitted."""
        if not students:
            return set()
        among = Among(tuple(sorted(students)))
        waiting = await self.works.waiting(course, assignment)
        receipts = await self.works.receipts(course, assignment, among)
        results = await self.works.results(course, assignment, among)
        found = {each.student for each in receipts} | {each.student for each in waiting}
        return set(students) & (found | {each.handed_in.student for each in results})

    async def _with_marks(self, result: Result) -> Result:
        """Return a result with the marks of its report if they were not stored with it."""
        if result.outcome not in OWN or result.execution is None:
            return result
        return replace(result, marks=await stored_marks(self.reports, result.job, result.execution))

    async def _by_deliveries(self, course: str, assignment: str, missing: Sequence[Receipt]) -> list[Result]:
        """Return the results of uploads whose jobs do not name them: of jobs or outcomes of an earlier version.

        An upload that gets no job, since a later one or a limit kept it from that, is settled without a result.
        """
        keys = {delivery_key(course, f"{UPLOADS}{assignment}", each.id): each for each in missing}
        deliveries = await self.deliveries.get_many(list(keys))
        by_job = {
            job_id(each.run_id, Phase.STUDENTS, 0): keys[identity]
            for identity, each in deliveries.items()
            if each.state is DeliveryState.ACCEPTED and each.run_id
        }
        jobs = await self.jobs.get_many(list(by_job))
        unused = [
            _settled(keys[identity], each)
            for identity, each in deliveries.items()
            if each.state not in (DeliveryState.ACCEPTED, _UNDECIDED)
        ]
        return [*unused, *_of_jobs(jobs.values(), by_job)]


def _settled(receipt: Receipt, delivery: Delivery) -> Result:
    """Return the result of an upload that has no job."""
    is_superseded = delivery.state is DeliveryState.SUPERSEDED
    outcome = Outcome.SUPERSEDED if is_superseded else Outcome.CANCELLED
    return Result(HandedIn(receipt.id, receipt.student, receipt.at), "", 0, outcome, delivery.received_at)


def _of_jobs(jobs: Collection[Job], receipts: dict[str, Receipt]) -> list[Result]:
    """Return the results of jobs that do not name their works; those that have not ended are left out."""
    found: list[Result] = []
    for job in jobs:
        attempt, receipt = graded_attempt(job), receipts[job.id]
        outcome = attempt.outcome if attempt else job.outcome if job.is_terminal else None
        if outcome is not None:
            found.append(
                Result(
                    handed_in=HandedIn(receipt.id, receipt.student, receipt.at),
                    job=job.id,
                    generation=attempt.generation if attempt else job.generation,
                    outcome=outcome,
                    finished_at=(attempt and attempt.ended_at) or job.finished_at or datetime.now(UTC),
                    execution=attempt.execution_id if attempt else None,
                    marks=attempt.marks if attempt else None,
                )
            )
    return found

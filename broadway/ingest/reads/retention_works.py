"""The choice of the works and runs of an assignment that can be removed without any effect on a grade.

A work stays if a version of the grade book refers to it, if a student chose it, if the draft would differ without it,
or if its student may still hand in within limits of attempts. All works stay while grades of a later policy, or of a
regrade, are not published yet.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from broadway.domain.grade_book import BookEntry, ChunkRef, Version
from broadway.domain.handed_in import HandedIn
from broadway.domain.results_of_work import Among, Receipt, Result
from broadway.domain.retention import (
    Chosen,
    OldRun,
    OldWork,
    Referred,
    changed,
    old_works,
    open_students,
    removable,
    without,
)
from broadway.ingest.reads.grades import GradeReads
from broadway.ingest.reads.works import WorkQueries
from broadway.lifecycle.retention import OldRuns

TRIES = 5  # drafts without works, until one is as before
PAGE = 100

UNPUBLISHED = "its grades are not published"
NEW_POLICY = "its settings have changed since its grades were published"
REGRADE = "a regrade of it is neither published nor discarded"
UNSTABLE = "its draft would change"


class OpenRegrades(Protocol):
    """Regrades that are not decided."""

    async def is_open(self, course: str, assignment: str) -> bool:
        """Return whether an assignment has a regrade that is neither published nor discarded."""


class Choices(Protocol):
    """The submissions that students have chosen to count."""

    async def of_assignment(self, course: str, assignment: str) -> dict[str, str]:
        """Return the ids of chosen submissions by student."""


@dataclass(frozen=True, slots=True)
class _Without:
    """The works of a store without some."""

    works: WorkQueries
    gone: AbstractSet[str]

    async def receipts(self, course: str, assignment: str, among: Among) -> list[Receipt]:
        return [each for each in await self.works.receipts(course, assignment, among) if each.id not in self.gone]

    async def receipts_of(self, course: str, assignment: str, works: Sequence[str]) -> list[Receipt]:
        return [each for each in await self.works.receipts_of(course, assignment, works) if each.id not in self.gone]

    async def results(self, course: str, assignment: str, among: Among) -> list[Result]:
        found = await self.works.results(course, assignment, among)
        return [each for each in found if each.handed_in.id not in self.gone]

    async def waiting(self, course: str, assignment: str) -> list[HandedIn]:
        return await self.works.waiting(course, assignment)


@dataclass(frozen=True, slots=True)
class WorkChoice:
    """Chooses works and runs to remove."""

    grades: GradeReads
    runs: OldRuns
    regrades: OpenRegrades
    choices: Choices

    async def choose(self, course: str, assignment: str, before: datetime, now: datetime) -> Chosen:
        """Return the works and runs that ended before a moment and can be removed."""
        state = await self._state(course, assignment)
        runs = await self.runs.old_runs(course, assignment, before)
        referred = await self.referred(course, assignment)
        version, kept = await self._published(course, assignment)
        works: dict[str, OldWork] = {}
        if version is not None:
            works = await self._works(course, assignment, min(before, version.at), referred)
        found, gone = removable(list(works.values()), runs, referred)
        if found:
            found, gone, kept = await self._settled(course, assignment, found, runs, referred, now)
        return Chosen(sorted(found), gone, kept, state)

    async def is_current(self, course: str, assignment: str, chosen: Chosen) -> bool:
        """Return whether the decisions of people are still those on which a choice depends."""
        return await self._state(course, assignment) == chosen.state

    async def _state(self, course: str, assignment: str) -> tuple[object, ...]:
        """Return the decisions of people that can change which works count, in a form that can be compared."""
        latest = await self.grades.books.latest(course, assignment, before=None, limit=1)
        return (
            latest[0].number if latest else 0,
            (await self.grades.settings.current(course, assignment)).version,
            await self.regrades.is_open(course, assignment),
            await self.choices.of_assignment(course, assignment),
            await self.grades.extensions.of_assignment(course, assignment),
        )

    async def referred(self, course: str, assignment: str) -> Referred:
        """Return all to which versions of the grade book refer, and the submissions that students chose."""
        return Referred.by(await self._booked(course, assignment), await self._chosen(course, assignment))

    async def _works(self, course: str, assignment: str, before: datetime, referred: Referred) -> dict[str, OldWork]:
        stored = self.grades.works.works
        waiting = {each.id for each in await stored.waiting(course, assignment)}
        cuts = await self.grades.cuts(course, assignment)
        received = await self.runs.received(course, assignment, cuts)
        results = await stored.results(course, assignment, Among(cuts=cuts))
        found = old_works(received, results, before, referred)
        return {work: each for work, each in found.items() if work not in waiting}

    async def _settled(
        self,
        course: str,
        assignment: str,
        works: dict[str, OldWork],
        runs: Sequence[OldRun],
        referred: Referred,
        now: datetime,
    ) -> tuple[dict[str, OldWork], list[OldRun], str]:
        """Return the works and runs to remove: without those of students whose entry in the draft would change."""
        before = (await self.grades.draft(course, assignment)).entries
        policy = (await self.grades.settings.current(course, assignment)).settings.policy
        affected = open_students(before, now) if policy.attempts else set()
        for _ in range(TRIES):
            kept = without(works, await self._with_groups(course, assignment, affected))
            works, gone = removable(list(kept.values()), runs, referred)
            affected = changed(before, await self._draft_without(course, assignment, works.keys()))
            if not affected:
                return works, gone, ""
        works, gone = removable([], runs, referred)
        return works, gone, UNSTABLE

    async def _draft_without(self, course: str, assignment: str, gone: AbstractSet[str]) -> Sequence[BookEntry]:
        reads = self.grades.works
        other = replace(self.grades, works=replace(reads, works=_Without(reads.works, frozenset(gone))))
        return (await other.draft(course, assignment)).entries

    async def _with_groups(self, course: str, assignment: str, students: AbstractSet[str]) -> set[str]:
        """Return students with the groups in which they hand in, and the members of these."""
        roster = await self.grades.members.rosters.get(course, assignment)
        groups = [each for each in (roster.students if roster else ()) if not students.isdisjoint(each.people)]
        return set(students) | {each.student for each in groups} | {name for each in groups for name in each.people}

    async def _published(self, course: str, assignment: str) -> tuple[Version | None, str]:
        """Return the published version if works of its time may be removed, or the reason why they stay."""
        pointer = await self.grades.pointer(course, assignment)
        version = await self.grades.published_version(course, assignment)
        if pointer is None or version is None or not pointer.is_visible:
            return None, UNPUBLISHED
        if (await self.grades.settings.current(course, assignment)).version != version.settings_version:
            return None, NEW_POLICY
        if await self.regrades.is_open(course, assignment):
            return None, REGRADE
        return version, ""

    async def _booked(self, course: str, assignment: str) -> list[BookEntry]:
        """Return the entries of all versions of the grade book; those that versions share once."""
        chunks: dict[str, ChunkRef] = {}
        before: int | None = None
        while found := await self.grades.books.latest(course, assignment, before=before, limit=PAGE):
            chunks |= {chunk.digest: chunk for version in found for chunk in version.chunks}
            before = found[-1].number
        return await self.grades.books.entries(list(chunks.values()))

    async def _chosen(self, course: str, assignment: str) -> list[str]:
        return list((await self.choices.of_assignment(course, assignment)).values())

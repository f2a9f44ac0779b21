"""The removal of all that is stored about one student of a course, part by part."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.deletion import Deletion, OpenWork, SharedNameError
from broadway.mongo.deleted_grades import DeletedGrades
from broadway.mongo.deleted_traces import DeletedTraces
from broadway.mongo.deleted_works import DeletedWorks
from broadway.mongo.deletions import StudentDeletions
from broadway.mongo.stored_bytes import StoredBytes


@dataclass(frozen=True, slots=True)
class StudentErasure:
    """Removal by student. Each call is safe to repeat."""

    deletions: StudentDeletions
    works: DeletedWorks
    grades: DeletedGrades
    traces: DeletedTraces
    stored_bytes: StoredBytes

    @classmethod
    def of(cls, main: AsyncDatabase[dict[str, Any]], logs: AsyncDatabase[dict[str, Any]]) -> Self:
        """Return the removal from two databases."""
        works, grades, traces = DeletedWorks.of(main, logs), DeletedGrades.of(main), DeletedTraces.of(main)
        return cls(grades.deletions, works, grades, traces, StoredBytes(main["stored_bytes"], main["submission"]))

    async def listed(self, course: str, student: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of a student, which may be those of groups, and the repositories, as the rosters have them.

        Raises:
            SharedNameError: A group with other members has the student's name.
        """
        names, repositories = [student], set()
        for entry in await self.traces.entries(course, student):
            members = entry.get("members") or [student]
            if set(members) == {student}:
                names.append(entry["student"])
                repositories |= {entry["repository"]} if entry.get("repository") else set()
            elif entry["student"] == student:
                raise SharedNameError(f"{student} is the name of a group with other members: rename it in the roster")
        return tuple(dict.fromkeys(names)), tuple(sorted(repositories))

    async def count(self, who: Deletion) -> Mapping[str, int]:
        """Return the numbers of what is stored about a student, by kind."""
        counts: Counter[str] = Counter()
        counts += await self.works.count(who, await self.works.runs(who))
        counts += await self.grades.count(who)
        counts += await self.traces.count(who, await self.works.names(who.course))
        return dict(counts)

    async def withdraw(self, who: Deletion, now: datetime) -> None:
        """Remove all from which new works could come: the student in rosters, tokens, deliveries, and submissions."""
        await self.traces.withdraw(who, await self.works.names(who.course))
        await self.works.remove_submissions(who, now)

    async def open_work(self, who: Deletion) -> OpenWork:
        """Return what has to end before the rest can be removed."""
        runs = await self.works.runs(who)
        own = [each.run for each in runs if each.is_own and not each.is_over]
        return OpenWork(own, [job for each in runs if each.run not in own for job in each.open_jobs])

    async def erase(self, who: Deletion, now: datetime) -> None:
        """Remove the rest; no work of the student is open."""
        runs = await self.works.runs(who)
        await self.traces.replace(who, [job for each in runs for job in each.jobs])
        await self.works.remove_runs(who, runs, now)
        await self.grades.remove(who)

    async def complete(self, who: Deletion) -> None:
        """Complete removals that a crash has interrupted and that leave nothing that names the student."""
        while await self.works.removals.go_on():
            pass
        await self.grades.remove_chunks(who)
        await self.grades.recount(who)
        await self.stored_bytes.recount(who.course)

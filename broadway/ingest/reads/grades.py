"""Reads of grades: the draft of the moment, and the versions of grade books."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from broadway.domain.assignment_settings import SettingsVersion
from broadway.domain.extension import Extension, Member, by_target, for_member
from broadway.domain.grade import Grade, grade
from broadway.domain.grade_book import Applied, BookEntry, Draft, Published, StoredAdjustment, Version, applied
from broadway.domain.pages import CursorError, Slice, sliced
from broadway.domain.policy import Policy, Spend
from broadway.domain.results_of_work import Graded, Result, by_student, with_result
from broadway.ingest.reads.members import MemberReads
from broadway.ingest.reads.stores import AssignmentQueries, ExtensionQueries
from broadway.ingest.reads.works import WorkReads
from broadway.lifecycle.grade_books import AdjustmentQueries, BookQueries, history, published_version
from broadway.lifecycle.stores import CurrentSettings
from broadway.runtime.threads import beside

PART = 200  # students whose works are read with one question

_NONE = Applied()


@dataclass(frozen=True, slots=True)
class Book:
    """A version with its entries, in the order of students."""

    version: Version
    entries: Sequence[BookEntry]


@dataclass(frozen=True, slots=True)
class BookedEntry:
    """A student's entry in a version. ``entry`` is None if the version has no such student."""

    version: Version
    entry: BookEntry | None


@dataclass(frozen=True, slots=True)
class _Class:
    """All that the grades of an assignment's students are made of."""

    settings: SettingsVersion
    members: Sequence[Member]
    works: Mapping[str, list[Graded]]
    extensions: Sequence[Extension]
    adjustments: Mapping[str, Applied]
    now: datetime


@dataclass(frozen=True, slots=True)
class _Booked:
    """An entry with the work that counts."""

    entry: BookEntry
    counts: Graded | None


@dataclass(frozen=True, slots=True)
class GradeReads:
    """Reads of the grades of any course."""

    books: BookQueries
    adjusted: AdjustmentQueries
    settings: CurrentSettings
    assignments: AssignmentQueries
    extensions: ExtensionQueries
    members: MemberReads
    works: WorkReads

    async def draft(self, course: str, assignment: str) -> Draft:
        """Return the draft of an assignment: all students of its roster, and those who have submitted."""
        return (await self.drafts(course, assignment, {}))[0]

    async def drafts(self, course: str, assignment: str, regraded: Mapping[str, Result]) -> tuple[Draft, Draft]:
        """Return the draft of an assignment, and the one in which results of a regrade count as if it were published.

        ``regraded`` has the results of the regrade by the id of the work.
        """
        pointer = await self.pointer(course, assignment)
        settings = await self.settings.current(course, assignment)
        charged = await self._charged_before(course, assignment, settings)
        found = await self._class(course, assignment, settings, charged)
        present = await beside(len(found.members), _grades, found)
        again = await beside(len(regraded), _graded_again, found, present, regraded) if regraded else present
        number = pointer.version if pointer else 0
        return _draft(found, present, number), _draft(found, again, number)

    async def draft_of(self, course: str, assignment: str, student: str) -> BookEntry | None:
        """Return one student's entry of the draft; None for one who is not in the roster and has submitted nothing."""
        settings = await self.settings.current(course, assignment)
        charged = await self._charged_before(course, assignment, settings, student)
        booked = await self._booked(course, assignment, settings, charged, student)
        return next((each.entry for each in booked), None)

    async def unknown(self, course: str, assignment: str, students: Collection[str]) -> Sequence[str]:
        """Return those of some names, in order, for which the draft has no grade.

        The draft has the people of the roster, and others below whose names there are submissions.
        """
        roster = await self.members.rosters.get(course, assignment)
        entries = roster.students if roster else ()
        others = set(students) - {person for entry in entries for person in entry.people}
        groups = others & {entry.student for entry in entries}
        submitters = await self.works.submitters(course, assignment, others - groups)
        return sorted(others - submitters)

    async def adjustments(self, course: str, assignment: str) -> list[StoredAdjustment]:
        """Return all adjustments of an assignment, withdrawn ones too, in the order in which they were made."""
        return await self.adjusted.of_assignment(course, assignment)

    async def pointer(self, course: str, assignment: str) -> Published | None:
        """Return the pointer to the published version, or None."""
        return await self.books.published(course, assignment)

    async def published(self, course: str, assignment: str) -> Book | None:
        """Return the published version with its entries, or None."""
        version = await self.published_version(course, assignment)
        return Book(version, await self.books.entries(version.chunks)) if version else None

    async def published_version(self, course: str, assignment: str) -> Version | None:
        """Return the published version, or None."""
        pointer = await self.pointer(course, assignment)
        return await self.books.version(course, assignment, pointer.version) if pointer else None

    async def version(self, course: str, assignment: str, number: int) -> Book | None:
        """Return a version that is or was published, with its entries, or None."""
        version = await published_version(self.books, course, assignment, number)
        return Book(version, await self.books.entries(version.chunks)) if version else None

    async def booked_entry(
        self, course: str, assignment: str, student: str, number: int | None = None
    ) -> BookedEntry | None:
        """Return a student's entry of the published version, or of a version by its number; None without it."""
        if number is None:
            version = await self.published_version(course, assignment)
        else:
            version = await published_version(self.books, course, assignment, number)
        return BookedEntry(version, await self._entry(version, student)) if version else None

    async def versions(self, course: str, assignment: str, *, before: int | None, limit: int) -> Slice[Version]:
        """Return a page of the versions that are or were published, latest first."""
        found = await history(self.books, course, assignment, before=before, limit=limit + 1)
        return sliced(found, limit, lambda each: str(each.number))

    async def adjustments_page(
        self, course: str, assignment: str, *, student: str | None, after: str | None, limit: int
    ) -> Slice[StoredAdjustment]:
        """Return a page of an assignment's adjustments, latest first; only a student's if one is given.

        Raises:
            CursorError: ``after`` is not the id of an adjustment.
        """
        found = [
            each
            for each in reversed(await self.adjusted.of_assignment(course, assignment))
            if student in (None, each.student)
        ]
        start = 0
        if after is not None:
            start = 1 + next((index for index, each in enumerate(found) if each.id == after), len(found))
            if start > len(found):
                raise CursorError("after: expected the next of the page before")
        return sliced(found[start : start + limit + 1], limit, lambda each: each.id)

    async def cuts(self, course: str, assignment: str) -> tuple[str, ...]:
        """Return the names between which the works of a class are read in parts."""
        roster = await self.members.rosters.get(course, assignment)
        names = sorted(each.student for each in roster.students) if roster else []
        return tuple(names[PART::PART])

    async def charged_before(self, course: str, assignment: str, student: str | None = None) -> Mapping[str, int]:
        """Return the late days that assignments with an earlier due time have charged, of all students or of one."""
        settings = await self.settings.current(course, assignment)
        return await self._charged_before(course, assignment, settings, student)

    async def charged_before_each(self, course: str, student: str) -> Mapping[str, int]:
        """Return the late days that a student has used before each assignment with late days, by assignment."""
        charged: Counter[str] = Counter()
        before: dict[str, int] = {}
        for _, name, settings in await self._with_late_days(course):
            before[name] = charged[student]
            charged.update(await self._charged_by(course, name, settings, charged, student))
        return before

    async def _entry(self, version: Version, student: str) -> BookEntry | None:
        chunk = version.chunk_of(student)
        entries = await self.books.entries([chunk]) if chunk else []
        return next((each for each in entries if each.student == student), None)

    async def _charged_before(
        self, course: str, assignment: str, settings: SettingsVersion, student: str | None = None
    ) -> Mapping[str, int]:
        """Return the late days that assignments with an earlier due time have charged, of all students or of one.

        Those of an assignment's published version count; its draft's if it has none. Each draft needs the days before
        it, so the assignments are read in the order of their due times.
        """
        charged: Counter[str] = Counter()
        own = _order(assignment, settings)
        for place, name, each in await self._with_late_days(course) if own else ():
            if own and place < own:
                charged.update(await self._charged_by(course, name, each, charged, student))
        return charged

    async def _with_late_days(self, course: str) -> list[tuple[tuple[datetime, str], str, SettingsVersion]]:
        """Return the assignments with late days with their settings, in the order of their due times."""
        found = {name: await self.settings.current(course, name) for name in await self.assignments.names(course)}
        placed = [(place, name, each) for name, each in found.items() if (place := _order(name, each))]
        return sorted(placed, key=lambda each: each[0])

    async def _charged_by(
        self, course: str, assignment: str, settings: SettingsVersion, charged: Mapping[str, int], student: str | None
    ) -> Mapping[str, int]:
        """Return the late days that an assignment has charged, of all students or of one."""
        version = await self.published_version(course, assignment)
        entries: Collection[BookEntry | None]
        if (version is None or not version.chunks) and _is_unused(settings.settings.policy, datetime.now(UTC)):
            return {}
        if version is None or not version.chunks:
            booked = await self._booked(course, assignment, settings, charged, student)
            entries = [each.entry for each in booked]
        elif student is None:
            entries = await self.books.entries(version.chunks)
        else:
            entries = [await self._entry(version, student)]
        return {each.student: each.grade.late_days for each in entries if each}

    async def _booked(
        self,
        course: str,
        assignment: str,
        settings: SettingsVersion,
        charged: Mapping[str, int],
        student: str | None = None,
    ) -> list[_Booked]:
        """Return the entries of the draft in the order of students: of all, or of one if there is such a student."""
        found = await self._class(course, assignment, settings, charged, student)
        return await beside(len(found.members), _grades, found)

    async def _class(
        self,
        course: str,
        assignment: str,
        settings: SettingsVersion,
        charged: Mapping[str, int],
        student: str | None = None,
    ) -> _Class:
        """Return the parts of which the entries of the draft are made, of all students or of one."""
        rule = settings.settings.policy.late_days

        def days_left(name: str) -> int:
            return max(0, rule.per_course - charged.get(name, 0)) if rule else 0

        only = None
        if student is not None:
            only = await self.members.one(course, assignment, student, days_left=days_left)
        names = None if only is None else (only.student, *([only.group] if only.group else []))
        cuts = () if names else await self.cuts(course, assignment)
        read = self.works.of_assignment(
            course, assignment, settings.settings, students=names, cuts=cuts, published=self._executions
        )
        works = by_student(await read)
        if only is None:
            members = await self.members.of_assignment(course, assignment, submitters=works, days_left=days_left)
        else:
            members = [only] if only.student in works or await self._is_member(course, assignment, only) else []
        return _Class(
            settings,
            sorted(members, key=lambda each: each.student),
            works,
            await self.extensions.of_assignment(course, assignment),
            applied(await self.adjusted.of_assignment(course, assignment)),
            datetime.now(UTC),
        )

    async def _is_member(self, course: str, assignment: str, member: Member) -> bool:
        roster = await self.members.rosters.get(course, assignment)
        return roster is not None and roster.of_person(member.student) is not None

    async def _executions(self, course: str, assignment: str) -> frozenset[str]:
        """Return the executions of the published grades."""
        book = await self.published(course, assignment)
        return frozenset().union(*(each.executions for each in book.entries)) if book else frozenset()


def _order(assignment: str, settings: SettingsVersion) -> tuple[datetime, str] | None:
    """Return the place of an assignment among those of its course that have late days, or None without them."""
    policy = settings.settings.policy
    due = policy.deadline.due
    return (policy.clock.ends(due), assignment) if policy.late_days and due else None


def _is_unused(policy: Policy, now: datetime) -> bool:
    """Return whether no student can have used late days yet: nothing is late before the due time and its grace."""
    due, rule = policy.deadline.due, policy.late_days
    is_over = due is None or now > policy.clock.ends(due) + policy.deadline.grace
    return not is_over and (rule is None or rule.spend is Spend.AUTO)


def _grades(found: _Class) -> list[_Booked]:
    latest = by_target(found.extensions)
    return [_booked_of(found, member, for_member(latest, member)) for member in found.members]


def _graded_again(found: _Class, present: Sequence[_Booked], regraded: Mapping[str, Result]) -> list[_Booked]:
    """Return the entries after a regrade. Grades of students whose works are worth the same are not computed again."""
    points = found.settings.settings.points
    works = {
        name: [with_result(each, regraded[each.work.id], points) if each.work.id in regraded else each for each in own]
        for name, own in found.works.items()
    }
    changed = {
        name
        for name, own in found.works.items()
        if any(old is not new and old.work != new.work for old, new in zip(own, works[name], strict=True))
    }
    again, latest = replace(found, works=works), by_target(found.extensions)
    return [
        _booked_of(again, member, for_member(latest, member))
        if member.student in changed or member.group in changed
        else _booked_as(again, member, booked.entry.grade, booked.entry.adjustments)
        for member, booked in zip(found.members, present, strict=True)
    ]


def _draft(found: _Class, booked: Sequence[_Booked], published: int) -> Draft:
    counts = [each.counts.result for each in booked if each.counts and each.counts.result]
    return Draft(
        entries=[each.entry for each in booked],
        at=found.now,
        published=published,
        settings_version=found.settings.version,
        configs=tuple(sorted({each.handed_in.config for each in counts if each.handed_in.config})),
        images=tuple(sorted({image for each in counts for image in each.images})),
    )


def _booked_of(found: _Class, member: Member, extensions: Sequence[Extension]) -> _Booked:
    own = _works_of(found, member)
    changes = found.adjustments.get(member.student, _NONE)
    settings = found.settings.settings
    computed = grade(
        member,
        [each.work for each in own],
        policy=settings.policy,
        points=settings.points,
        extensions=extensions,
        adjustments=changes.points,
        decision=changes.decision,
        now=found.now,
    )
    return _booked_as(found, member, computed, changes.ids)


def _booked_as(found: _Class, member: Member, computed: Grade, adjustments: tuple[str, ...]) -> _Booked:
    """Return a grade with the work that counts and its result."""
    own = _works_of(found, member)
    counts = next((each for each in own if each.work.id == computed.submission), None)
    result = counts.result if counts else None
    again = {each.result.execution for each in own if each.result and each.result.handed_in.regrade}
    entry = BookEntry(
        computed,
        job=result.job if result else None,
        generation=result.generation if result else None,
        execution=result.execution if result else None,
        adjustments=adjustments,
        regraded=tuple(sorted(each for each in again if each)),
    )
    return _Booked(entry, counts)


def _works_of(found: _Class, member: Member) -> list[Graded]:
    return [*found.works.get(member.student, ()), *(found.works.get(member.group, ()) if member.group else ())]

"""The plan of a regrade: the works that it grades again, with the environments of the jobs that graded them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Protocol

from broadway.domain.extension import Member
from broadway.domain.grade_book import BookEntry
from broadway.domain.handed_in import HandedIn
from broadway.domain.parts import in_parts
from broadway.domain.regrade import (
    MAX_SUBMISSIONS,
    Item,
    Part,
    PartKind,
    Regrade,
    RegradeOrder,
    Seen,
    control_group,
    part_size,
    split,
)
from broadway.domain.regrade_terms import Select
from broadway.domain.results_of_work import Result
from broadway.domain.roster import Roster
from broadway.domain.run import Run
from broadway.ingest.commands.grades import Drafts
from broadway.lifecycle.stores import AssignmentRosters, CoursesById, JobsById
from broadway.runtime.threads import beside

RUNS = 50  # read at a time


class NothingToRegradeError(ValueError):
    """The order fits no submission that was graded; the text says so."""


class WorkResults(Protocol):
    """The results of works."""

    async def results(self, course: str, assignment: str) -> Sequence[Result]:
        """Return the results of all works for an assignment."""


class RunsWithRosters(Protocol):
    """Runs with their environments and configs."""

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return runs by id; unknown ids are left out."""


class AssignmentMembers(Protocol):
    """The members of assignments."""

    async def of_assignment(self, course: str, assignment: str, *, submitters: Iterable[str] = ()) -> list[Member]:
        """Return the members of an assignment: those of the roster, then others who have submitted."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The parts of a plan, the number of submissions in them, and the published version to compare them with."""

    plan: str
    parts: Sequence[Part]
    submissions: int
    base: int


@dataclass(frozen=True, slots=True)
class RegradePlanner:
    """Plans regrades."""

    works: WorkResults
    drafts: Drafts
    members: AssignmentMembers
    rosters: AssignmentRosters
    courses: CoursesById
    jobs: JobsById
    runs: RunsWithRosters

    async def plan(self, regrade: Regrade, *, only: Collection[str] | None = None) -> Planned:
        """Return the plan of a regrade, for some of its students if they are given."""
        present = await self.drafts.draft(regrade.course, regrade.assignment)
        draft = {entry.student: entry for entry in present.entries}
        graders = await self._graders(regrade.course, regrade.assignment)
        roster = await self.rosters.get(regrade.course, regrade.assignment)
        members = await self.members.of_assignment(
            regrade.course, regrade.assignment, submitters={each.handed_in.student for each in graders.values()}
        )
        by_entry: dict[str, list[HandedIn]] = {}
        for each in graders.values():
            by_entry.setdefault(each.handed_in.student, []).append(each.handed_in)
        chosen = [
            seen
            for member in members
            if only is None or member.student in only
            if (seen := _seen(member, by_entry, regrade.order, draft.get(member.student), roster)).submissions
        ]
        works = sorted({each for seen in chosen for each in seen.submissions})
        course = await self.courses.get(regrade.course)
        size, token = part_size(course.concurrency if course else None), token_hex(8)
        control = _control(regrade, works, seed=token) if only is None else []
        sources = await self._sources([graders[each] for each in works], configs_of=control)
        parts = await beside(len(works), _parts, regrade, token, chosen, sources, control, size)
        return Planned(token, parts, len(works), present.published)

    async def check(self, course: str, assignment: str, order: RegradeOrder) -> None:
        """Return if an order fits submissions of an assignment.

        Raises:
            NothingToRegradeError: It does not.
        """
        graders = await self._graders(course, assignment)
        if not graders:
            raise NothingToRegradeError("no submission for this assignment is graded")
        if order.select is Select.ALL and len(graders) > MAX_SUBMISSIONS:
            raise NothingToRegradeError(f"select: {len(graders)} submissions are more than {MAX_SUBMISSIONS}")
        if unknown := [each for each in order.submissions if each not in graders]:
            raise NothingToRegradeError(f"submissions: {unknown[0]} is not a graded submission for {assignment}")

    async def _graders(self, course: str, assignment: str) -> dict[str, Result]:
        """Return for each work the last result of a job that is not of a regrade, which has its environment."""
        found: dict[str, Result] = {}
        for each in await self.works.results(course, assignment):
            known = found.get(each.handed_in.id)
            if not each.handed_in.regrade and (known is None or known.finished_at < each.finished_at):
                found[each.handed_in.id] = each
        return found

    async def _sources(self, results: Sequence[Result], *, configs_of: Collection[str]) -> dict[str, "_Source"]:
        """Return the environments of works by id, and for those of the control group the configs."""
        jobs = await self.jobs.get_many([each.job for each in results])
        sources: dict[str, _Source] = {}
        for part in in_parts(results, RUNS):
            some = [each for each in part if each.job in jobs]
            runs = await self.runs.get_many(sorted({jobs[each.job].run_id for each in some}))
            for each in some:
                job, work = jobs[each.job], each.handed_in.id
                if (run := runs.get(job.run_id)) and job.index < len(run.students_env):
                    config = run.config if work in configs_of else None
                    item = Item(work, run.students_env[job.index], each.job, each.execution or "")
                    sources[work] = _Source(item, each.handed_in.config, config)
        return sources


@dataclass(frozen=True, slots=True)
class _Source:
    """A work's item, the digest of the config by which it was graded, and that config if it is needed."""

    item: Item
    config_digest: str
    config: Mapping[str, Any] | None = None


def _seen(
    member: Member,
    by_entry: Mapping[str, Sequence[HandedIn]],
    order: RegradeOrder,
    entry: BookEntry | None,
    roster: Roster | None,
) -> Seen:
    """Return a student with the works that an order selects, of the student and the student's group."""
    names = {member.student, member.group or member.student}
    works = sorted((work for name in names for work in by_entry.get(name, ())), key=lambda work: (work.at, work.id))
    counting = entry.grade.submission if entry else None
    match order.select:
        case Select.LATEST:
            chosen = works[-1:]
        case Select.COUNTING:
            chosen = [work for work in works if work.id == counting]
        case Select.ALL:
            chosen = works
        case Select.CHOSEN:
            chosen = [work for work in works if work.id in order.submissions]
    is_listed = roster is not None and roster.of_person(member.student) is not None
    return Seen(member.student, counting, tuple(work.id for work in chosen), is_listed)


def _control(regrade: Regrade, works: Sequence[str], *, seed: str) -> list[str]:
    percent = regrade.order.control_percent
    return [] if percent is None else control_group(works, percent, seed)


def _parts(
    regrade: Regrade,
    plan: str,
    chosen: Sequence[Seen],
    sources: Mapping[str, _Source],
    control: Sequence[str],
    size: int,
) -> list[Part]:
    groups = ((seen, [sources[each].item for each in seen.submissions if each in sources]) for seen in chosen)
    found: list[tuple[PartKind, list[Seen], list[Item], Mapping[str, Any] | None]] = [
        (PartKind.NEW, seen, items, None) for seen, items in split(groups, size)
    ]
    by_config: dict[str, list[_Source]] = {}
    for work in control:
        if source := sources.get(work):
            by_config.setdefault(source.config_digest, []).append(source)
    for some in by_config.values():
        found += [(PartKind.CONTROL, [], [each.item for each in part], part[0].config) for part in in_parts(some, size)]
    return [
        Part(regrade.id, plan, number, kind, tuple(items), tuple(seen), config)
        for number, (kind, seen, items, config) in enumerate(found)
    ]

"""One pass of retention over a course: its rules, applied in small batches, or counted in a dry run.

Each batch is safe to repeat, so that an interrupted pass is made again from the start: what is gone stays gone.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from broadway.domain.parts import in_parts
from broadway.domain.regrade import Part, Regrade
from broadway.domain.retention import Chosen, Kind, OldJob, OldRun, Policy, Referred, cutoff, together
from broadway.lifecycle.retention import OldRuns

BATCH = 50
TRIES = 5  # choices of works in a pass, while people go on deciding about grades
BUSY = "people decide about its grades all the time"
MANY = 500  # ids at a time of small documents
UNUSED_FOR = timedelta(days=1)  # before the bytes of results files are removed

Turn = Callable[[], Awaitable[None]]


class WorkChoices(Protocol):
    """The choice of works and runs to remove."""

    async def choose(self, course: str, assignment: str, before: datetime, now: datetime) -> Chosen:
        """Return the works and runs that ended before a moment and that no grade needs."""

    async def is_current(self, course: str, assignment: str, chosen: Chosen) -> bool:
        """Return whether the decisions of people are still those on which a choice depends."""

    async def referred(self, course: str, assignment: str) -> Referred:
        """Return all to which versions of the grade book refer."""


class RemovableRuns(OldRuns, Protocol):
    """Runs and submissions that can be removed."""

    async def remove_runs(self, course: str, runs: Sequence[OldRun], now: datetime) -> list[OldRun]:
        """Remove runs that have not changed, with all that belongs to them, at most ``BATCH``; return those."""

    async def go_on(self) -> int:
        """Take on removals of runs that were interrupted, some at a time; return their number."""

    async def remove_submissions(self, course: str, assignment: str, works: Sequence[str], now: datetime) -> int:
        """Remove submissions, at most ``BATCH``, with their deliveries; return their number."""

    async def count_submissions(self, course: str, works: Sequence[str]) -> int:
        """Return how many of some works, at most ``BATCH``, are uploads."""

    async def remove_logs(self, jobs: Sequence[OldJob], now: datetime) -> int:
        """Remove the logs of jobs, at most ``BATCH``; return the number of the removed ones."""

    async def count_logs(self, jobs: Sequence[OldJob]) -> int:
        """Return the number of logs that jobs have, at most ``BATCH`` jobs."""

    async def forget(self, now: datetime) -> None:
        """Drop notes that have been kept long enough."""


class DiscardedRegrades(Protocol):
    """Discarded regrades with their parts."""

    async def discarded(self, course: str, assignment: str, before: datetime) -> list[Regrade]:
        """Return regrades that were discarded before a moment and whose jobs have ended; without configs."""

    async def parts(self, regrade: Regrade) -> list[Part]:
        """Return the parts of a regrade's plans."""

    async def remove_parts(self, regrade: Regrade) -> None:
        """Remove the parts of a discarded regrade, whose runs are removed."""


class OldDeliveries(Protocol):
    """Deliveries that are decided."""

    async def decided(self, course: str, before: datetime, *, after: str, limit: int) -> list[tuple[str, str | None]]:
        """Return ids of a course's decided deliveries before a moment, with their runs, by id; not those of uploads."""

    async def remove(self, identities: Sequence[str]) -> int:
        """Remove decided deliveries; return their number."""


class StoredRuns(Protocol):
    """Runs by id."""

    async def summaries(self, run_ids: Sequence[str]) -> Mapping[str, object]:
        """Return runs by id; unknown ids are left out."""


class EndedTokens(Protocol):
    """Tokens that are not valid any more."""

    async def ended(self, course: str, before: datetime) -> list[str]:
        """Return the ids of a course's tokens that were revoked, or expired, before a moment."""

    async def remove(self, identities: Sequence[str]) -> int:
        """Remove tokens; return their number."""


class OldOnes(Protocol):
    """Documents without a course that grow old."""

    async def old(self, before: datetime, *, limit: int) -> list[str]:
        """Return the ids of old documents."""

    async def remove_old(self, identities: Sequence[str], before: datetime) -> int:
        """Remove documents that are still old; return their number."""


class AssignmentNames(Protocol):
    """Names of assignments."""

    async def names(self, course: str) -> list[str]:
        """Return the names of a course's assignments, sorted."""


class Bytes(Protocol):
    """The counted bytes of submissions."""

    async def recount(self, course: str) -> None:
        """Correct the number of a course."""


class ResultsFiles(Protocol):
    """The bytes of results files."""

    async def sweep_files(self, before: datetime) -> int:
        """Remove bytes that have been noted as unused before a moment and that no report has; return their number."""


@dataclass(frozen=True, slots=True)
class Old:
    """The stores that a pass reads and removes from."""

    assignments: AssignmentNames
    works: WorkChoices
    removals: RemovableRuns
    regrades: DiscardedRegrades
    deliveries: OldDeliveries
    runs: StoredRuns
    tokens: EndedTokens
    dead_letters: OldOnes
    graders: OldOnes
    stored_bytes: Bytes
    files: ResultsFiles


@dataclass(slots=True)
class Counts:
    """The result of a pass: numbers by kind, and why works of assignments stay."""

    numbers: Counter[str] = field(default_factory=Counter)
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CoursePass:
    """A pass over one course. ``turn`` is awaited before each batch: it keeps the lease, and raises without it."""

    old: Old
    course: str
    policy: Policy
    now: datetime
    is_dry: bool
    turn: Turn
    counts: Counts = field(default_factory=Counts)

    async def make(self) -> Counts:
        """Apply all rules."""
        if not self.is_dry:
            await self._go_on()
        if self.course:
            await self._of_course()
        if self.policy.tokens:
            await self._tokens(cutoff(self.policy.tokens, self.now))
        await self._old(Kind.DEAD_LETTERS, self.old.dead_letters, self.policy.dead_letters)
        await self._old(Kind.GRADERS, self.old.graders, self.policy.graders)
        if not self.is_dry:
            await self._end()
        return self.counts

    async def _go_on(self) -> None:
        while await self.old.removals.go_on():
            await self.turn()

    async def _of_course(self) -> None:
        for assignment in await self.old.assignments.names(self.course):
            await self._assignment(assignment)
        if self.policy.deliveries:
            await self._deliveries(cutoff(self.policy.deliveries, self.now))

    async def _end(self) -> None:
        if self.course and self.counts.numbers[Kind.SUBMISSIONS]:
            await self.old.stored_bytes.recount(self.course)
        await self.old.removals.forget(self.now)
        while await self.old.files.sweep_files(self.now - UNUSED_FOR):
            await self.turn()

    def _count(self, kind: Kind, number: int) -> None:
        if number:
            self.counts.numbers[kind.value] += number

    async def _assignment(self, assignment: str) -> None:
        rules = self.policy
        if rules.works:
            await self._works(assignment, cutoff(rules.works, self.now))
        if rules.regrades:
            await self._regrades(assignment, cutoff(rules.regrades, self.now))
        if rules.logs:
            await self._logs(assignment, cutoff(rules.logs, self.now))

    async def _works(self, assignment: str, before: datetime) -> None:
        """Remove works and runs. They are chosen again if people decide about grades meanwhile."""
        for _ in range(TRIES):
            await self.turn()
            chosen = await self.old.works.choose(self.course, assignment, before, self.now)
            self.counts.kept.pop(assignment, None)
            if chosen.kept:
                self.counts.kept[assignment] = chosen.kept
            if await self._are_removed(assignment, chosen):
                return
        self.counts.kept[assignment] = BUSY

    async def _are_removed(self, assignment: str, chosen: Chosen) -> bool:
        """Remove chosen works with their runs; return False as soon as the choice is not the present one.

        In each group uploads go first: the results of their jobs keep them in the draft until the runs are gone, too.
        """
        for works, runs in _grouped(chosen):
            await self.turn()
            if not self.is_dry and not await self.old.works.is_current(self.course, assignment, chosen):
                return False
            for some in in_parts(works, BATCH):
                await self._uploads(assignment, some)
            await self._runs(runs)
        return True

    async def _uploads(self, assignment: str, works: Sequence[str]) -> None:
        await self.turn()
        removals = self.old.removals
        if self.is_dry:
            number = await removals.count_submissions(self.course, works)
        else:
            number = await removals.remove_submissions(self.course, assignment, works, self.now)
        self._count(Kind.SUBMISSIONS, number)

    async def _runs(self, runs: Sequence[OldRun]) -> None:
        for some in in_parts(runs, BATCH):
            await self.turn()
            gone = some if self.is_dry else await self.old.removals.remove_runs(self.course, some, self.now)
            self._count(Kind.RUNS, len(gone))
            self._count(Kind.JOBS, sum(len(run.jobs) for run in gone))

    async def _regrades(self, assignment: str, before: datetime) -> None:
        discarded = await self.old.regrades.discarded(self.course, assignment, before)
        if not discarded:
            return
        runs = await self.old.removals.old_runs(self.course, assignment, self.now, regrade=True)
        for regrade in discarded:
            own = {part.run_id for part in await self.old.regrades.parts(regrade)}
            await self._runs([run for run in runs if run.id in own])
            if own and not self.is_dry:
                await self.old.regrades.remove_parts(regrade)

    async def _logs(self, assignment: str, before: datetime) -> None:
        await self.turn()
        referred = await self.old.works.referred(self.course, assignment)
        for is_regrade in (False, True):
            runs = await self.old.removals.old_runs(self.course, assignment, before, regrade=is_regrade)
            await self._logs_of(runs, referred)

    async def _logs_of(self, runs: Iterable[OldRun], referred: Referred) -> None:
        jobs = [job for run in runs for job in run.jobs if not referred.has_job(job)]
        for some in in_parts(jobs, BATCH):
            await self.turn()
            removals = self.old.removals
            number = removals.count_logs(some) if self.is_dry else removals.remove_logs(some, self.now)
            self._count(Kind.LOGS, await number)

    async def _deliveries(self, before: datetime) -> None:
        after = ""
        while found := await self.old.deliveries.decided(self.course, before, after=after, limit=MANY):
            await self.turn()
            after = found[-1][0]
            stored = await self.old.runs.summaries([run for _, run in found if run])
            gone = [identity for identity, run in found if run not in stored]
            self._count(Kind.DELIVERIES, len(gone) if self.is_dry else await self.old.deliveries.remove(gone))

    async def _tokens(self, before: datetime) -> None:
        for some in in_parts(await self.old.tokens.ended(self.course, before), BATCH):
            await self.turn()
            self._count(Kind.TOKENS, len(some) if self.is_dry else await self.old.tokens.remove(some))

    async def _old(self, kind: Kind, old: OldOnes, days: int | None) -> None:
        if days is None:
            return
        before = cutoff(days, self.now)
        if self.is_dry:
            self._count(kind, len(await old.old(before, limit=MANY * MANY)))
            return
        while found := await old.old(before, limit=MANY):
            await self.turn()
            removed = await old.remove_old(found, before)
            self._count(kind, removed)
            if not removed:
                return


def _grouped(chosen: Chosen) -> Iterator[tuple[Sequence[str], Sequence[OldRun]]]:
    """Yield works with their runs, as few of them at a time as fill a batch."""
    works, runs = list[str](), list[OldRun]()
    for own_works, own_runs in together(chosen.works, chosen.runs):
        works, runs = works + own_works, runs + own_runs
        if len(works) >= BATCH or len(runs) >= BATCH:
            yield works, runs
            works, runs = [], []
    if works or runs:
        yield works, runs

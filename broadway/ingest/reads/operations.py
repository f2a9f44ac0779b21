"""The state of the deployment for operators: pools with their waiting jobs, graders, and dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broadway.domain.grader import Grader, GraderState
from broadway.domain.letter import Letter
from broadway.ingest.reads.stores import GraderQueries
from broadway.lifecycle.stores import CourseList

MOST_GRADERS = 500
MOST_LETTERS = 50


class WaitingInPools(Protocol):
    """Queries on waiting jobs."""

    async def count_in_pool(self, pool: str) -> int:
        """Return the number of a pool's jobs that wait for a start."""


class LetterQueries(Protocol):
    """Queries on dead letters."""

    async def latest(self, limit: int) -> list[Letter]:
        """Return dead letters, latest first."""


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """A pool: its waiting jobs, the jobs that run, and the slots of graders that take jobs."""

    name: str
    waiting: int
    running: int
    slots: int
    graders: int
    resting: int  # graders that are alive and take no jobs

    @property
    def is_stuck(self) -> bool:
        """True if jobs wait and no grader takes them."""
        return self.waiting > 0 and self.slots == 0


@dataclass(frozen=True, slots=True)
class Operations:
    """All that operators look at."""

    pools: Sequence[PoolLoad]
    graders: Sequence[Grader]
    letters: Sequence[Letter]
    courses: int


@dataclass(frozen=True, slots=True)
class OperationReads:
    """Reads of the state of the deployment."""

    graders: GraderQueries
    courses: CourseList
    jobs: WaitingInPools
    letters: LetterQueries

    async def now(self) -> Operations:
        """Return the present state."""
        graders, courses = await self.graders.all(), await self.courses.all()
        names = {"default", *(each.pool for each in graders if each.alive), *(each.pool for each in courses)}
        pools = [_load(name, await self.jobs.count_in_pool(name), graders) for name in sorted(names)]
        shown = sorted(graders, key=lambda each: (not each.alive, each.pool, each.id))[:MOST_GRADERS]
        return Operations(pools, shown, await self.letters.latest(MOST_LETTERS), len(courses))


def _load(name: str, waiting: int, graders: Sequence[Grader]) -> PoolLoad:
    own = [each for each in graders if each.pool == name and each.alive]
    taking = [each for each in own if each.state is GraderState.ONLINE]
    return PoolLoad(
        name,
        waiting,
        running=sum(len(each.running) for each in own),
        slots=sum(each.allowed_slots for each in taking),
        graders=len(own),
        resting=len(own) - len(taking),
    )

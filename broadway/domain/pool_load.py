"""The load of a pool of graders, and the number of slots that it asks for. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import fmean

from broadway.domain.grader import Grader, GraderState

TARGET = 60.0  # seconds in which a waiting job should start
FEWEST = 3  # durations, below which their mean says nothing


@dataclass(frozen=True, slots=True)
class PoolSlots:
    """The slots of a pool's live graders.

    ``live`` are all of them: those of graders that take jobs, are ``paused``, or are ``draining`` (or drained).
    ``busy`` are those in which a job runs, by the graders' last reports. ``free`` are those that can take a job.
    """

    live: int = 0
    busy: int = 0
    free: int = 0
    paused: int = 0
    draining: int = 0

    @classmethod
    def of(cls, graders: Sequence[Grader]) -> "PoolSlots":
        """Return the slots of some live graders."""
        slots = {state: sum(each.allowed_slots for each in graders if each.state is state) for state in GraderState}
        taking = [each for each in graders if each.state is GraderState.ONLINE]
        return cls(
            live=sum(slots.values()),
            busy=sum(len(each.running) for each in graders),
            free=sum(max(0, each.allowed_slots - len(each.running)) for each in taking),
            paused=slots[GraderState.PAUSED],
            draining=slots[GraderState.DRAINING] + slots[GraderState.DRAINED],
        )


@dataclass(frozen=True, slots=True)
class StoredLoad:
    """The load of a pool by the store.

    ``waiting`` jobs are stored and not known to have started, ``oldest_wait`` is the longest time in seconds since one
    of them was queued, and ``durations`` are the seconds that some recent jobs took.
    """

    waiting: int = 0
    running: int = 0
    oldest_wait: float | None = None
    durations: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """The load of a pool.

    ``ready`` is the number of waiting jobs that a grader can take at once, and ``rate`` the number of jobs that start
    in a second; both are None while they are unknown.
    """

    graders: int = 0
    slots: PoolSlots = PoolSlots()
    stored: StoredLoad = StoredLoad()
    ready: int | None = None
    rate: float | None = None

    @property
    def mean_duration(self) -> float | None:
        """The mean seconds that recent jobs took; None if there are too few."""
        durations = self.stored.durations
        return fmean(durations) if len(durations) >= FEWEST else None

    def suggested_slots(self, target: float = TARGET) -> int:
        """Return the number of slots with which every waiting job starts within about ``target`` seconds.

        Each running job keeps its slot. In ``target`` seconds a slot runs ``target / mean`` jobs one after another, so
        a waiting job needs ``mean / target`` of a slot, and one of its own if jobs take longer than that, or an unknown
        time. The slots that the recent rate keeps busy are the least.
        """
        mean = self.mean_duration
        share = 1.0 if mean is None else min(1.0, mean / target)
        steady = math.ceil((self.rate or 0.0) * (mean or 0.0))
        return max(steady, self.stored.running + math.ceil(self.stored.waiting * share))


@dataclass(slots=True)
class Rates:
    """The rates of starts in pools, from what graders count: samples of the counts, which only grow.

    Args:
        window: Seconds over which starts are counted.
        step: Seconds between two samples that are kept.
    """

    window: float = 300.0
    step: float = 15.0
    _samples: list[tuple[float, dict[str, int]]] = field(default_factory=list)

    def add(self, now: float, graders: Sequence[Grader]) -> None:
        """Add the counts of all live graders at a moment."""
        kept = [sample for sample in self._samples if now - sample[0] <= self.window] or self._samples[-1:]
        if not kept or now - kept[-1][0] >= self.step:
            kept.append((now, {each.id: each.jobs_processed for each in graders}))
        self._samples = kept

    def of(self, now: float, graders: Sequence[Grader]) -> float | None:
        """Return the starts per second of some graders since the oldest sample; None before a step has passed.

        A grader that came after that sample counts with all its starts since its first one.
        """
        if not self._samples or (passed := now - self._samples[0][0]) < self.step:
            return None
        first = dict(chain.from_iterable(counts.items() for _, counts in reversed(self._samples)))
        return sum(max(0, each.jobs_processed - first.get(each.id, each.jobs_processed)) for each in graders) / passed

"""Weighted fair share between courses: deficit round robin. No I/O.

Within a course interactive jobs go first, and those of a regrade last.

Each course in turn earns credit in proportion to its weight, and pays the average cost of its jobs for each job. So a
course of long jobs gets no more of the cluster than a course of short jobs. A new course has the credit for its first
job at once.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from broadway.domain.job import JobClass

# Bounds of relative costs, so that one unusual job cannot block its course.
CHEAPEST, DEAREST = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A job that may be dispatched."""

    job_id: str
    course: str
    job_class: JobClass
    is_regrade: bool = False

    @property
    def rank(self) -> int:
        """The place of the job's line among the lines of its course."""
        return len(JobClass) if self.is_regrade else list(JobClass).index(self.job_class)


@dataclass(slots=True)
class _Line:
    """The waiting jobs of one course, and its credit."""

    credit: float
    waiting: tuple[deque[Offer], ...] = field(default_factory=lambda: tuple(deque() for _ in range(len(JobClass) + 1)))

    def next(self, eligible: Callable[[Offer], bool]) -> Offer | None:
        for line in self.waiting:
            if line and eligible(line[0]):
                return line[0]
        return None

    def is_empty(self) -> bool:
        return not any(self.waiting)


class FairShare:
    """The courses with jobs to offer, in the order of their turns.

    Args:
        weight: Returns a course's share; 1 by default.
        cost: Returns the cost of one job of a course, relative to the average of all courses.
    """

    def __init__(
        self, *, weight: Callable[[str], float] = lambda _: 1.0, cost: Callable[[str], float] = lambda _: 1.0
    ) -> None:
        self._weight = weight
        self._cost = cost
        self._lines: dict[str, _Line] = {}
        self._turns: deque[str] = deque()
        self._offered: dict[str, Offer] = {}

    def __len__(self) -> int:
        return len(self._offered)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._offered

    def offer(self, offer: Offer, *, first: bool = False) -> None:
        """Add a job behind, or if ``first`` before, the jobs of its course and class. A known job keeps its place."""
        if offer.job_id in self._offered:
            return
        line = self._lines.get(offer.course)
        if line is None:
            line = self._lines[offer.course] = _Line(credit=self._price(offer.course))
            self._turns.append(offer.course)
        queue = line.waiting[offer.rank]
        if first:
            queue.appendleft(offer)
        else:
            queue.append(offer)
        self._offered[offer.job_id] = offer

    def withdraw(self, job_id: str) -> None:
        """Remove a job; an unknown job is no error."""
        offer = self._offered.pop(job_id, None)
        if offer is not None:
            line = self._lines[offer.course]
            line.waiting[offer.rank].remove(offer)
            if line.is_empty():
                self._leave(offer.course)

    def pick(self, eligible: Callable[[Offer], bool] = lambda _: True) -> Offer | None:
        """Remove and return the next job; None if no course has an eligible job."""
        if not any(line.next(eligible) for line in self._lines.values()):
            return None
        while True:
            course = self._turns[0]
            offer = self._lines[course].next(eligible)
            price = self._price(course)
            if offer and self._lines[course].credit >= price:
                return self._take(offer, price)
            if offer:
                self._lines[course].credit += self._weight(course)
            self._turns.rotate(-1)

    def _take(self, offer: Offer, price: float) -> Offer:
        line = self._lines[offer.course]
        line.waiting[offer.rank].popleft()
        line.credit -= price
        del self._offered[offer.job_id]
        if line.is_empty():
            self._leave(offer.course)
        elif line.credit < price:
            line.credit += self._weight(offer.course)
            self._turns.rotate(-1)
        return offer

    def _leave(self, course: str) -> None:
        del self._lines[course]
        self._turns.remove(course)

    def _price(self, course: str) -> float:
        return min(DEAREST, max(CHEAPEST, self._cost(course)))


class JobCosts:
    """The cost of a job of each course: a moving average of its jobs' seconds in a slot."""

    SMOOTHING = 0.2

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def observe(self, course: str, seconds: float) -> None:
        """Add the time that a job held its slot to the average of its course."""
        known = self._seconds.get(course, seconds)
        self._seconds[course] = known + self.SMOOTHING * (seconds - known)

    @property
    def average(self) -> float:
        """The average seconds of a job, each course counted once; 0 while no course is known."""
        return sum(self._seconds.values()) / len(self._seconds) if self._seconds else 0.0

    def relative(self, course: str) -> float:
        """Return a course's cost relative to the average of the known courses; 1 for an unknown course."""
        average = self.average
        if average <= 0 or course not in self._seconds:
            return 1.0
        return self._seconds[course] / average

"""The backlog queues of all courses, consumed while this dispatcher leads."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from broadway.dispatcher.board import Board
from broadway.dispatcher.dispatch import Intake
from broadway.dispatcher.ports import BacklogCourses, ConsumedBroker, Consumption, Reading
from broadway.domain.course import Course
from broadway.domain.job import JobClass
from broadway.lifecycle.stores import CourseList
from broadway.messages.topology import Queue, course_queue, durable_queues, ready_queue
from broadway.ports import PublishError, StoreError
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class CourseQueues:
    """The subscriptions to the backlogs of all courses.

    The course's cap is the prefetch of its queues, and the number of jobs for which no further message is opened: a
    message may have one job or many.

    ``tag`` is the prefix of the consumer tags.
    """

    registered: CourseList
    jobs: BacklogCourses
    broker: ConsumedBroker
    board: Board
    intake: Intake
    stack: contextlib.AsyncExitStack
    tag: str
    _open: dict[str, "_Opened"] = field(default_factory=dict)
    _epochs: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _courses: set[str] = field(default_factory=set)
    _pools: set[str] = field(default_factory=set)

    def pools(self) -> set[str]:
        """Return the pools that courses use."""
        return self._pools

    def queues(self) -> list[Queue]:
        """Return all durable queues that must exist."""
        return durable_queues(sorted(self._courses), sorted(self._pools))

    def reading(self, course: str, job_class: JobClass) -> Reading:
        """Return which messages of a backlog have arrived."""
        opened = self._open.get(course)
        if opened is None:
            return Reading()
        queue = opened.classes[job_class]
        return Reading(opened.epoch, queue.opened, queue.unopened)

    async def watch(self, *, interval: float) -> None:
        """Refresh every ``interval`` seconds until cancelled."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self.refresh()
            except (StoreError, PublishError) as error:
                log.warning("courses not refreshed", reason=str(error))

    async def refresh(self) -> None:
        """Consume the queues of every course that is registered or still has queued jobs, with its present cap."""
        courses = [*await self.registered.all()]
        if not self._open:
            removed = set(await self.jobs.courses_with_backlog()) - {course.id for course in courses}
            courses += _removed(removed)
        self.board.set_courses(courses)
        self._courses |= {course.id for course in courses}
        self._pools |= {course.pool for course in courses}
        for pool in self._pools:
            with isolated("courses", pool=pool):
                await self._declare(pool)
        for course in courses:
            with isolated("courses", course=course.id):
                await self._subscribe(course.id)

    async def _declare(self, pool: str) -> None:
        """Declare the queue of a pool; a broker that takes other queues and not this one does not stop the others.

        Raises:
            PublishError: The broker is unavailable.
        """
        try:
            await self.broker.declare(ready_queue(pool))
        except PublishError as error:
            await self.broker.ping()
            log.warning("a pool's queue cannot be declared", pool=pool, reason=str(error))

    async def _subscribe(self, course: str) -> None:
        prefetch = self.board.cap(course)
        if course in self._open:
            opened = self._open[course]
            present = opened.prefetch
            # A new prefetch needs a new consumer, which requeues all held messages: too costly for every change of
            # slots.
            if present == prefetch or (not self.board.is_capped(course) and present / 2 < prefetch < present * 2):
                return
            del self._open[course]
            await opened.stack.aclose()
        classes: dict[JobClass, Consumption] = {}
        async with contextlib.AsyncExitStack() as stack:
            for job_class in JobClass:
                classes[job_class] = await stack.enter_async_context(
                    self.broker.consume(
                        course_queue(course, job_class),
                        self.intake.hold,
                        tag=f"{self.tag}.{course}.{job_class}",
                        prefetch=prefetch,
                        most_events=prefetch,
                    )
                )
            kept = await self.stack.enter_async_context(stack.pop_all())
            self._open[course] = _Opened(prefetch, next(self._epochs), classes, kept)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The consumed queues of a course by class, from ``epoch`` on."""

    prefetch: int
    epoch: int
    classes: Mapping[JobClass, Consumption]
    stack: contextlib.AsyncExitStack


def _removed(names: Iterable[str]) -> list[Course]:
    """Return courses that are registered no more, by their names."""
    courses: list[Course] = []
    for name in sorted(filter(None, names)):
        with isolated("courses", course=name):
            courses.append(Course(id=name, tokens=()))
    return courses

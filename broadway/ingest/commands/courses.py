"""Courses that operators add while the API runs, and the list of all courses."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

import structlog

from broadway.domain.course import Course
from broadway.domain.job import JobClass
from broadway.lifecycle.stores import CourseList
from broadway.messages.topology import course_queue, ready_queue
from broadway.ports import PublishError, QueueDeclarer

log = structlog.get_logger(__name__)

MAX_COURSES = 10_000
DECLARE_WITHIN = 2.0  # seconds


class CourseExistsError(Exception):
    """There is a course of that name, or as many courses as are allowed."""


class AddedCourses(CourseList, Protocol):
    """The stored courses."""

    async def add(self, course: Course) -> bool:
        """Store a course; return False, and change nothing, if there is one with its id."""


@dataclass(frozen=True, slots=True)
class CourseSettings:
    """The requests of operators about courses."""

    courses: AddedCourses
    broker: QueueDeclarer

    async def add(self, course: Course) -> None:
        """Store a new course, which a course config that does not name it leaves alone.

        If the broker is unavailable, the dispatcher declares the queues later, and jobs wait in the outbox until then.

        Raises:
            CourseExistsError: There is a course with its id, or there are ``MAX_COURSES``.
        """
        if len(await self.courses.all()) >= MAX_COURSES:
            raise CourseExistsError(f"there are {MAX_COURSES} courses already, which is the limit")
        if not await self.courses.add(course):
            raise CourseExistsError(f"id: there is a course {course.id} already; `broadway course list` shows all")
        log.info("course added", course=course.id)
        queues = [*(course_queue(course.id, job_class) for job_class in JobClass), ready_queue(course.pool)]
        try:
            async with asyncio.timeout(DECLARE_WITHIN):
                await self.broker.declare(*queues)
        except (PublishError, TimeoutError) as error:
            log.warning("queues not declared yet", course=course.id, reason=str(error) or "no answer of the broker")

    async def page(self, after: str | None, limit: int) -> tuple[list[Course], str | None]:
        """Return the courses after one, by id, and the id of the last one if there are more."""
        found = sorted((each for each in await self.courses.all() if each.id > (after or "")), key=lambda each: each.id)
        return found[:limit], found[limit - 1].id if len(found) > limit else None

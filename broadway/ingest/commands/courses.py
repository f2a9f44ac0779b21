"""Courses that operators add while the API runs, and the list of all courses."""

from dataclasses import dataclass
from typing import Protocol

import structlog

from broadway.domain.course import Course
from broadway.lifecycle.stores import CourseList

log = structlog.get_logger(__name__)

MAX_COURSES = 10_000


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

    async def add(self, course: Course) -> None:
        """Store a new course, which a course config that does not name it leaves alone.

        Its queues are declared by the next refresh of the dispatcher; jobs of runs before that wait in the outbox.

        Raises:
            CourseExistsError: There is a course with its id, or there are ``MAX_COURSES``.
        """
        if len(await self.courses.all()) >= MAX_COURSES:
            raise CourseExistsError(f"there are {MAX_COURSES} courses already, which is the limit")
        if not await self.courses.add(course):
            raise CourseExistsError(f"id: there is a course {course.id} already; `broadway course list` shows all")
        log.info("course added", course=course.id)

    async def page(self, after: str | None, limit: int) -> tuple[list[Course], str | None]:
        """Return the courses after one, by id, and the id of the last one if there are more."""
        found = sorted((each for each in await self.courses.all() if each.id > (after or "")), key=lambda each: each.id)
        return found[:limit], found[limit - 1].id if len(found) > limit else None

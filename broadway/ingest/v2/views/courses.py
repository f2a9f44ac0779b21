"""Courses as resources."""

from broadway.domain.course import Course
from broadway.messages.resources.courses import CourseView


def course_view(course: Course) -> CourseView:
    return CourseView(id=course.id, weight=course.weight, concurrency=course.concurrency, pool=course.pool)

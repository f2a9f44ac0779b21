"""The terms of regrades: states, selections, publications, and categories of differences. Pure.

Commands offer them as options, so this module loads nothing else.
"""

from enum import StrEnum


class RegradeState(StrEnum):
    """The state of a regrade."""

    DRAFT = "draft"
    RUNNING = "running"
    READY = "ready"
    STALE = "stale"
    PUBLISHED = "published"
    DISCARDED = "discarded"


class Select(StrEnum):
    """The submissions that a regrade grades again."""

    LATEST = "latest"  # of each student
    COUNTING = "counting"  # those that the present grades count
    ALL = "all"
    CHOSEN = "chosen"


class Publish(StrEnum):
    """The grades of a regrade that are published."""

    ALL = "all"
    RAISE = "raise"  # the better one of the old and the new grade
    CHOSEN = "chosen"  # the new ones of chosen students


class Category(StrEnum):
    """The difference between the two grades of a student, worst first."""

    INFRA_ERROR = "infra_error"  # the infrastructure failed with the regrade, so there is nothing to compare
    NEWLY_UNGRADABLE = "newly_ungradable"
    DOWN = "down"
    UP = "up"
    TESTS_CHANGED = "tests_changed"  # for the same points
    NEWLY_GRADABLE = "newly_gradable"
    LATE_CHANGED = "late_changed"  # days late or late days, for the same points
    SAME = "same"
    STALE = "stale"  # the student's submissions or grade have changed since the regrade ran
    LEFT_COURSE = "left_course"

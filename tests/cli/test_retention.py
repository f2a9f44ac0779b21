"""The names of rules, which stand in the domain, in the API and in `broadway retention set`."""

from broadway.cli.retention import NAMES
from broadway.domain.retention import CourseRules
from broadway.messages.resources.retention import RetentionRequest


def test_a_course_has_the_same_rules_everywhere() -> None:
    assert list(NAMES) == list(RetentionRequest.model_fields) == list(CourseRules.model_fields)

"""Stages with a kind: their defaults, what they may not have, and the facts about a submission."""

from typing import Any

import pytest
from pydantic import ValidationError

from broadway.domain.assignment import AssignmentConfig, Stage, longest_run
from broadway.domain.stage_kind import HARNESSES, facts, with_place

POSTED = {"image": "x", "kind": "gradescope"}


def test_a_kind_has_defaults_of_its_own_which_do_not_count_as_posted() -> None:
    stage = Stage.model_validate(POSTED)

    assert stage.entrypoint == ["/autograder/run_autograder"]
    assert (stage.networking, stage.timeout, stage.memory, stage.tty) == (False, 600.0, "768m", False)
    assert stage.results_setting == HARNESSES["gradescope"].results
    assert AssignmentConfig(student_pipeline=[stage]).as_posted()["student_pipeline"] == [POSTED]
    assert longest_run([POSTED, {"image": "x"}]) == 630.0


def test_posted_keys_take_precedence_over_the_defaults_of_a_kind() -> None:
    given = {"entrypoint": ["/run"], "networking": True, "timeout": 5.0, "memory": "2g", "tty": True}
    stage = Stage.model_validate({**POSTED, **given})
    assert stage.model_dump(include=set(given)) == given


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"untrusted": True}, "untrusted: a stage of kind gradescope is a trusted one"),
        ({"results": "r.json"}, "results: a stage of kind gradescope has results of its own"),
        ({"results": {"format": "tap"}}, "results: a stage of kind gradescope has results of its own"),
        ({"read": ["a"]}, "read: only for a stage"),
        ({"kind": "autolab"}, "'gradescope' or 'prairielearn'"),
    ],
)
def test_a_stage_with_a_kind_is_refused(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Stage.model_validate({**POSTED, **more})


def test_results_of_a_kind_do_not_lie_in_a_path_of_an_untrusted_stage() -> None:
    writes = {"image": "x", "untrusted": True, "write": ["results"]}
    AssignmentConfig.model_validate({"student_pipeline": [writes, POSTED]})


def test_only_stages_with_a_kind_get_the_names_of_course_and_assignment() -> None:
    stages: list[dict[str, Any]] = [{"env": {"A": "1"}}, {"kind": "prairielearn", "env": {"A": "1"}}]
    own = {"BROADWAY_COURSE": "cs101", "BROADWAY_ASSIGNMENT": "hw1"}
    assert with_place(stages, course="cs101", assignment="hw1") == [
        {"env": {"A": "1"}},
        {"kind": "prairielearn", "env": {"A": "1", **own}},
    ]


def test_the_same_names_have_the_same_numbers() -> None:
    env = {"BROADWAY_COURSE": "cs101", "BROADWAY_ASSIGNMENT": "hw1", "BROADWAY_STUDENT": "ada"}
    first, again = facts("gradescope", env), facts("gradescope", {**env, "GRADING_JOB_ID": "1"})
    assert first["assignment"] == again["assignment"]
    assert first["users"] == again["users"]
    assert first["id"] != again["id"]
    assert 0 <= first["id"] < 2**31


def test_a_job_of_no_student_has_no_users_and_no_time() -> None:
    found = facts("gradescope", {"BROADWAY_SUBMITTED_AT": "yesterday"})
    assert (found["users"], found["created_at"]) == ([], "1970-01-01T00:00:00.000000+00:00")
    assert isinstance(found["assignment"]["total_points"], str)


def test_a_question_has_no_parameters() -> None:
    found = facts("prairielearn", {})
    assert (found["params"], found["submitted_answers"]) == ({}, {})

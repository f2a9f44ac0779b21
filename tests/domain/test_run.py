"""Runs: the transitions of their states, and the jobs that a phase needs."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadway.domain.job import JobClass, JobState, Phase
from broadway.domain.run import PHASE_OF, PIPELINE_OF, Run, RunState, job_id, plan_jobs

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
STAGE = {"image": "fake"}

READY, PRE, STUDENTS, POST = RunState.READY, RunState.PRE_PROCESSING, RunState.STUDENTS, RunState.POST_PROCESSING
FINISHED, FAILED = RunState.FINISHED, RunState.FAILED


def run(state: RunState = READY, *, pre: bool = True, post: bool = True, students: int = 2, **more: Any) -> Run:
    config = {
        "student_pipeline": [STAGE],
        "pre_processing_pipeline": [STAGE] if pre else None,
        "post_processing_pipeline": [STAGE] if post else [],
        "env": None,
    }
    return Run(
        id="0123456789abcdef01234567",
        course="cs1",
        assignment="mp1",
        state=state,
        started_at=T0,
        config=more.pop("config", config),
        students_env=more.pop("students_env", [{"STUDENT_ID": f"s{n}"} for n in range(students)]),
        **more,
    )


@pytest.mark.parametrize(
    ("state", "succeeded", "pre", "post", "students", "following"),
    [
        (READY, True, True, True, 2, PRE),
        (READY, True, False, True, 2, STUDENTS),
        (READY, True, False, True, 0, POST),
        (READY, True, False, False, 0, FINISHED),
        (READY, True, True, False, 0, PRE),
        (PRE, True, True, True, 2, STUDENTS),
        (PRE, True, True, True, 0, POST),
        (PRE, True, True, False, 0, FINISHED),
        (PRE, False, True, True, 2, FAILED),
        (STUDENTS, True, True, True, 2, POST),
        (STUDENTS, False, True, True, 2, POST),
        (STUDENTS, True, True, False, 2, FINISHED),
        (STUDENTS, False, True, False, 2, FINISHED),
        (POST, True, True, True, 2, FINISHED),
        (POST, False, True, True, 2, FAILED),
    ],
)
def test_a_state_is_followed_by_the_next_needed_one(
    state: RunState, *, succeeded: bool, pre: bool, post: bool, students: int, following: RunState
) -> None:
    assert run(state, pre=pre, post=post, students=students).next_state(phase_succeeded=succeeded) is following


def test_a_run_without_any_pipeline_is_complete_at_once() -> None:
    assert run(config={}).next_state(phase_succeeded=True) is FINISHED


@pytest.mark.parametrize("state", list(RunState))
def test_a_state_has_a_phase_while_jobs_are_under_way(state: RunState) -> None:
    assert run(state).phase is PHASE_OF.get(state)
    assert state.is_terminal is (state in (FINISHED, FAILED))
    assert re.fullmatch("[a-z-]+", state.slug)


def test_every_phase_has_a_pipeline_and_a_state() -> None:
    assert set(PHASE_OF.values()) == set(PIPELINE_OF) == set(Phase)


@pytest.mark.parametrize(
    ("students", "expected"), [(0, JobClass.INTERACTIVE), (1, JobClass.INTERACTIVE), (2, JobClass.BULK)]
)
def test_a_run_of_one_student_is_interactive(students: int, expected: JobClass) -> None:
    assert run(students=students).job_class is expected


def test_job_ids_are_24_hex_digits_and_differ() -> None:
    ids = [job_id(name, phase, index) for name in ("a" * 24, "b" * 24) for phase in Phase for index in range(20)]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{24}", identity) for identity in ids)


def test_planning_again_gives_the_same_ids_in_the_rosters_order() -> None:
    roster = run(students=25)
    first = plan_jobs(roster, Phase.STUDENTS, T0)
    again = plan_jobs(roster, Phase.STUDENTS, T0 + timedelta(hours=1))

    assert [plan.job.id for plan in first] == [plan.job.id for plan in again]
    assert [plan.job.index for plan in first] == list(range(25))
    assert [plan.stages[0]["env"]["STUDENT_ID"] for plan in first] == [f"s{n}" for n in range(25)]


def test_a_planned_job_waits_in_the_outbox() -> None:
    (plan,) = plan_jobs(run(pool="gpu"), Phase.PRE_PROCESSING, T0)

    assert plan.job.state is JobState.QUEUED
    assert (plan.job.queued_at, plan.job.not_before) == (T0, None)
    assert (plan.job.course, plan.job.assignment, plan.job.pool) == ("cs1", "mp1", "gpu")
    assert plan.job.job_class is JobClass.BULK


def test_each_job_has_only_its_own_environment() -> None:
    shared = {"image": "fake", "env": {"STAGE": "1"}}
    two = run(
        config={"student_pipeline": [shared, {"image": "other"}], "env": {"ALL": "yes"}},
        students_env=[{"A": "1", "X": "run"}, {"B": "2"}],
    )
    first, second = plan_jobs(two, Phase.STUDENTS, T0)

    def expected(plan_id: str, **own: str) -> dict[str, str]:
        return {"ALL": "yes", "GRADING_RUN_ID": two.id, **own, "GRADING_JOB_ID": plan_id}

    assert [stage["env"] for stage in first.stages] == [
        expected(first.job.id, STAGE="1", A="1", X="run"),
        expected(first.job.id, A="1", X="run"),
    ]
    assert [stage["env"] for stage in second.stages] == [
        expected(second.job.id, STAGE="1", B="2"),
        expected(second.job.id, B="2"),
    ]
    assert shared == {"image": "fake", "env": {"STAGE": "1"}}


@pytest.mark.parametrize("phase", [Phase.PRE_PROCESSING, Phase.POST_PROCESSING])
def test_pre_and_post_processing_are_one_job_each_with_or_without_an_environment(phase: Phase) -> None:
    key = phase.value.replace("-", "_") + "_env"
    for given, expected in ((None, None), ({"WHERE": "here"}, "here")):
        (plan,) = plan_jobs(replace(run(), **{key: given}), phase, T0)
        assert plan.stages[0]["env"].get("WHERE") == expected


def test_a_phase_without_a_pipeline_has_no_jobs() -> None:
    bare = run(pre=False, post=False)

    assert plan_jobs(bare, Phase.PRE_PROCESSING, T0) == []
    assert plan_jobs(bare, Phase.POST_PROCESSING, T0) == []

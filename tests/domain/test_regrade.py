"""Regrades: their states, the parts in which their jobs run, and their runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.handed_in import HandedIn, digest_of_config
from broadway.domain.job import JobClass, Phase
from broadway.domain.regrade import (
    PART,
    Item,
    Part,
    PartKind,
    Regrade,
    RegradeOrder,
    RegradeStateError,
    Seen,
    control_group,
    grading_part,
    most_open,
    part_size,
    regrade_id,
    run_of,
    split,
)
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.domain.run import plan_jobs

NOW = datetime(2026, 12, 1, tzinfo=UTC)
CONFIG: dict[str, Any] = {
    "env": {"A": "1"},
    "student_pipeline": [{"image": "tests:2"}],
    "post_processing_pipeline": [{"image": "sender:1"}],
}
DRAFT = Regrade(
    id=regrade_id("cs", "mp1", "k"),
    course="cs",
    assignment="mp1",
    order=RegradeOrder(Select.LATEST),
    config=grading_part(CONFIG),
    config_digest=digest_of_config(CONFIG),
    created_at=NOW,
)
RUNNING = DRAFT.plan_as("p", 30, base=1)
READY = RUNNING.finish(NOW)
STALE = READY.mark_stale()
PUBLISHED = READY.publish_as(2, NOW, by="ta", note="One test was wrong.")
DISCARDED = READY.discard(NOW, by="ta")
STATES = [DRAFT, RUNNING, READY, STALE, PUBLISHED, DISCARDED]
STEPS: dict[str, tuple[Any, set[RegradeState], RegradeState]] = {
    "plan": (lambda each: each.plan_as("p", 1, base=0), {RegradeState.DRAFT}, RegradeState.RUNNING),
    "finish": (lambda each: each.finish(NOW), {RegradeState.RUNNING}, RegradeState.READY),
    "mark stale": (Regrade.mark_stale, {RegradeState.READY}, RegradeState.STALE),
    "refresh": (
        lambda each: each.refresh("q", 31, base=2),
        {RegradeState.READY, RegradeState.STALE},
        RegradeState.RUNNING,
    ),
    "publish": (
        lambda each: each.publish_as(3, NOW, by="ta", note="n"),
        {RegradeState.READY, RegradeState.STALE, RegradeState.PUBLISHED},
        RegradeState.PUBLISHED,
    ),
    "begin publishing": (
        lambda each: replace(each.begin_publishing(NOW), state=RegradeState.PUBLISHED),
        {RegradeState.READY, RegradeState.STALE, RegradeState.PUBLISHED},
        RegradeState.PUBLISHED,
    ),
    "discard": (
        lambda each: each.discard(NOW, by="ta"),
        {RegradeState.DRAFT, RegradeState.RUNNING, RegradeState.READY, RegradeState.STALE},
        RegradeState.DISCARDED,
    ),
}


@pytest.mark.parametrize("state", STATES, ids=lambda each: str(each.state))
@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_allowed_in_its_states_only(step: str, state: Regrade) -> None:
    take, allowed, target = STEPS[step]
    if state.state not in allowed:
        with pytest.raises(RegradeStateError, match=r"the regrade is (draft|running|ready|stale|published|discarded)"):
            take(state)
        return
    after = take(state)
    assert (after.state, after.revision) == (target, state.revision + 1)


def test_a_regrade_that_was_published_is_never_discarded() -> None:
    with pytest.raises(RegradeStateError, match="published as version 2, which refers to its reports"):
        PUBLISHED.discard(NOW, by="ta")


def test_a_regrade_that_is_being_published_is_not_discarded_and_looked_after_later() -> None:
    publishing = READY.begin_publishing(NOW)
    with pytest.raises(RegradeStateError, match="is being published"):
        publishing.discard(NOW, by="ta")
    assert publishing.is_active
    assert [publishing.is_due(NOW + timedelta(seconds=seconds)) for seconds in (59, 60)] == [False, True]
    assert publishing.end_publishing().discard(NOW, by="ta").state is RegradeState.DISCARDED
    assert not publishing.publish_as(2, NOW, by="ta", note="n").is_active


def test_a_discarded_regrade_is_cleaned_when_no_process_can_start_a_part_of_it() -> None:
    assert [DISCARDED.is_due(NOW + timedelta(seconds=seconds)) for seconds in (4, 5)] == [False, True]
    assert not DISCARDED.clean().is_active


@pytest.mark.parametrize(
    ("cap", "size", "most"), [(None, 20, 40), (1, 1, 1), (2, 1, 1), (3, 1, 2), (20, 9, 19), (64, 20, 63)]
)
def test_two_parts_leave_room_below_a_cap(cap: int | None, size: int, most: int) -> None:
    assert (part_size(cap), most_open(cap)) == (size, most)


def test_a_process_goes_on_with_regrades_that_run_or_are_cleaned() -> None:
    assert [each.is_active for each in STATES] == [True, True, False, False, False, True]
    assert not replace(DISCARDED, clean_at=None).is_active


def test_a_refresh_keeps_the_earlier_plans() -> None:
    again = STALE.refresh("q", 31, base=4)
    assert (again.plans, again.submissions, again.base, again.ready_at) == (("p", "q"), 31, 4, None)
    with pytest.raises(RegradeStateError, match="was refreshed 49 times"):
        replace(STALE, plans=("p",) * 50).refresh("q", 31, base=4)


def test_the_run_of_a_part_has_the_jobs_of_its_submissions_in_the_last_class() -> None:
    env = {"BROADWAY_STUDENT": "ada", "BROADWAY_SUBMITTED_AT": NOW.isoformat(), "COMMIT": "c0ffee"}
    part = Part(DRAFT.id, "p", 0, PartKind.NEW, (Item("a push", env),))
    run = run_of(DRAFT, part, pool="gpu", now=NOW)
    assert (run.id, run.job_class, run.pool, run.regrade) == (part.run_id, JobClass.BULK, "gpu", DRAFT.id)
    assert run.envs(Phase.POST_PROCESSING) == []
    (plan,) = plan_jobs(run, Phase.STUDENTS, NOW)
    assert plan.job.handed_in == HandedIn("a push", "ada", NOW, digest_of_config(run.config), DRAFT.id)
    assert plan.stages[0]["env"]["COMMIT"] == "c0ffee"


def test_a_control_part_has_the_earlier_config() -> None:
    part = Part(DRAFT.id, "p", 0, PartKind.CONTROL, (), config={"student_pipeline": [{"image": "tests:1"}]})
    assert run_of(DRAFT, part, pool="p", now=NOW).pipeline(Phase.STUDENTS) == [{"image": "tests:1"}]


@given(st.lists(st.integers(0, 45), max_size=40))
def test_parts_have_each_submission_once_and_keep_students_together(numbers: list[int]) -> None:
    groups = [
        (Seen(f"s{at}", None, ()), [Item(f"{at}.{number}", {}) for number in range(count)])
        for at, count in enumerate(numbers)
    ]
    parts = list(split(groups))
    items = [item.submission for _, some in parts for item in some]
    assert items == [item.submission for _, own in groups for item in own]
    assert [seen for some, _ in parts for seen in some] == [seen for seen, _ in groups]
    assert all(len(some) <= max(PART, *numbers) for _, some in parts)


def test_the_members_of_a_group_share_their_submissions() -> None:
    item = Item("s", {})
    ((seen, items),) = split([(Seen("ada", "s", ("s",)), [item]), (Seen("bob", "s", ("s",)), [item])])
    assert (len(seen), items) == (2, [item])


@pytest.mark.parametrize(("count", "percent", "expected"), [(3, 5, 3), (40, 5, 5), (200, 5, 10), (201, 5, 11)])
def test_a_control_group_has_its_share_and_at_least_five(count: int, percent: int, expected: int) -> None:
    submissions = [f"s{number}" for number in range(count)]
    group = control_group(submissions, percent, "seed")
    assert len(group) == len(set(group)) == expected
    assert set(group) <= set(submissions)
    assert group == control_group(submissions[::-1], percent, "seed")

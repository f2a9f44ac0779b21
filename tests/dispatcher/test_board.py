"""The dispatcher's board: caps, targets, and counts that balance."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broadway.dispatcher.board import DEFAULT_CAP, Board
from broadway.dispatcher.held import Held
from broadway.dispatcher.pace import ENOUGH as ENOUGH_ENDED
from broadway.domain.course import Course
from broadway.domain.handed_in import HandedIn
from broadway.domain.job import Attempt, Job, JobClass, JobState, Phase
from broadway.messages.events import GraderHeartbeat, RunningJob

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENOUGH = 512  # slots: so many that targets do not matter
HOUR = 3600.0


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def job(name: str, course: str = "cs1", *, state: JobState = JobState.QUEUED, interactive: bool = False) -> Job:
    return Job(
        id=name,
        run_id="run",
        course=course,
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.INTERACTIVE if interactive else JobClass.BULK,
        pool="default",
        queued_at=T0,
        state=state,
    )


def beat(
    slots: int, *, name: str = "g1", pool: str = "default", seconds: float = 0, leaving: bool = False
) -> GraderHeartbeat:
    return GraderHeartbeat(
        grader_id=name,
        hostname=name,
        pool=pool,
        slots=slots,
        leaving=leaving,
        sent_at=T0 + timedelta(seconds=seconds),
    )


def board(slots: int, *courses: Course, ready_share: float = 0.25, interactive_share: float = 0.125) -> Board:
    made = Board(ready_share=ready_share, interactive_share=interactive_share)
    made.set_courses(courses)
    if slots:
        made.hear(beat(slots), now=T0)
    return made


def course(name: str, *, concurrency: int | None = None, weight: float = 1) -> Course:
    return Course(id=name, tokens=(), concurrency=concurrency, weight=weight)


def keep(target: Board, number: int, name: str = "cs1", *, interactive: bool = False) -> list[Held]:
    return [target.keep(job(f"{name}-{interactive}-{index}", name, interactive=interactive)) for index in range(number)]


def drain(target: Board) -> list[Held]:
    picked = []
    while held := target.pick("default"):
        picked.append(held)
    return picked


def start_all(target: Board, helds: list[Held]) -> None:
    for held in helds:
        target.start(held.job_id, 1, "e1", now=T0)


def pick_and_start(target: Board) -> list[Held]:
    """Pick all jobs that can be picked, with graders that start each at once."""
    taken: list[Held] = []
    while picked := drain(target):
        start_all(target, picked)
        taken += picked
    return taken


def books(target: Board) -> tuple[int, int, int, int]:
    """Return the numbers of jobs in flight, bulk jobs in flight, ready jobs and offered jobs."""
    return (
        target._in_flight.total(),  # noqa: SLF001 - the test checks these counts
        target._bulk_in_flight.total(),  # noqa: SLF001
        target._ready.total(),  # noqa: SLF001
        sum(len(share) for share in target._shares.values()),  # noqa: SLF001
    )


@pytest.mark.parametrize(("slots", "ready"), [(0, 1), (1, 1), (4, 1), (8, 2), (100, 25)])
def test_free_slots_get_a_job_each_and_a_share_of_them_is_kept_ready(slots: int, ready: int) -> None:
    target = board(slots, interactive_share=0)
    keep(target, 200)

    first = drain(target)
    assert len(first) == slots + ready

    start_all(target, first[:slots])
    assert drain(target) == []

    for held in first[: slots // 2]:
        target.drop(held)
    assert len(drain(target)) == slots // 2


@pytest.mark.parametrize(("seconds", "ready"), [(60, 2), (0.4, 2), (0.2, 4), (0.1, 8), (0.05, 16), (0.001, 32)])
def test_more_jobs_are_kept_ready_if_jobs_are_short(seconds: float, ready: int) -> None:
    target = board(8, interactive_share=0)
    keep(target, 60)
    first = drain(target)
    start_all(target, first)
    for held in first:
        target.settle(held.job_id, 1, course="cs1", seconds=seconds)
        target.drop(held)

    assert len(drain(target)) == 8 + ready


def of_run(target: Board, run: str, number: int) -> list[Held]:
    return [target.keep(replace(job(f"{run}-{each}", run), run_id=run)) for each in range(number)]


@pytest.mark.parametrize(("slots", "picked"), [(8, 2 + 4 * 2), (40, 4 * 2)], ids=["no reserve", "two slots reserved"])
def test_many_short_jobs_are_ready_only_for_slots_in_which_no_other_jobs_run(slots: int, picked: int) -> None:
    target = board(slots, course("brief", concurrency=1000), course("long", concurrency=1000), interactive_share=0.05)
    of_run(target, "brief", 500)
    for each in range(ENOUGH_ENDED):
        target.settle(f"brief-{each}", 1, course="brief", seconds=0.001)
        target.drop(target.held[f"brief-{each}"])
    of_run(target, "long", slots - 2)
    for each in range(slots - 2):
        target.start(f"long-{each}", 1, "e1", now=T0)

    assert len(drain(target)) == picked


@pytest.mark.parametrize(
    ("seconds", "number"), [(0.001, ENOUGH_ENDED - 1), (0.0, ENOUGH_ENDED)], ids=["few", "cancelled"]
)
def test_jobs_of_a_run_are_not_ready_early_before_enough_of_them_have_taken_no_time(
    seconds: float, number: int
) -> None:
    target = board(8, interactive_share=0)
    of_run(target, "new", 60)
    for each in range(number):
        target.settle(f"new-{each}", 1, course="new", seconds=seconds)
        target.drop(target.held[f"new-{each}"])

    assert len(drain(target)) == 8 + 2


def test_a_run_has_to_show_anew_that_its_jobs_take_no_time_after_its_last_job() -> None:
    target = board(8, interactive_share=0)
    for held in of_run(target, "run", ENOUGH_ENDED):
        target.settle(held.job_id, 1, course="run", seconds=0.001)
        target.drop(held)
    of_run(target, "run", 60)

    assert len(drain(target)) == 8 + 2


def test_a_few_jobs_are_ready_even_if_all_slots_seem_busy() -> None:
    target = board(8, interactive_share=0)
    keep(target, 20)
    start_all(target, drain(target))  # eight of the ten run on a grader that has died since

    assert len(drain(target)) == 2


def test_a_capped_course_has_no_more_jobs_in_flight_than_its_cap() -> None:
    target = board(ENOUGH, course("capped", concurrency=3), course("free"))
    capped = keep(target, 10, "capped")
    keep(target, 5, "free")

    taken = pick_and_start(target)
    assert sum(held.course == "capped" for held in taken) == 3
    assert sum(held.course == "free" for held in taken) == 5

    target.drop(next(held for held in capped if held.in_flight))
    assert [held.course for held in pick_and_start(target)] == ["capped"]


@pytest.mark.parametrize(("slots", "cap"), [(0, DEFAULT_CAP), (10, DEFAULT_CAP), (100, 200)])
def test_an_uncapped_course_is_bounded_by_the_cluster(slots: int, cap: int) -> None:
    target = board(slots, course("free"), course("capped", concurrency=500))

    assert target.cap("free") == target.cap("unheard of") == cap
    assert target.cap("capped") == 500
    assert (target.is_capped("capped"), target.is_capped("free"), target.is_capped("unheard of")) == (
        True,
        False,
        False,
    )


def test_bulk_jobs_leave_slots_to_interactive_ones() -> None:
    target = board(16, interactive_share=0.125)
    keep(target, 40, "roster")
    assert len(pick_and_start(target)) == 14

    keep(target, 3, "student", interactive=True)
    assert [held.job_class for held in pick_and_start(target)] == [JobClass.INTERACTIVE] * 3


def test_few_slots_reserve_no_slot() -> None:
    target = board(4, interactive_share=0.125)
    keep(target, 40)

    assert len(pick_and_start(target)) == 40


def test_courses_take_turns_by_weight() -> None:
    target = board(ENOUGH, course("heavy", weight=3), course("plain"))
    keep(target, 30, "heavy")
    keep(target, 30, "plain")

    first = [held for held in (target.pick("default") for _ in range(20)) if held]
    assert sum(held.course == "heavy" for held in first) == 15


def test_the_duration_of_jobs_counts_in_turns() -> None:
    target = board(ENOUGH)
    for name, seconds in (("slow", 30.0), ("quick", 10.0)):
        (held,) = keep(target, 1, name)
        target.settle(held.job_id, 1, course=name, seconds=seconds)
        target.drop(held)
    keep(target, 40, "slow")
    keep(target, 40, "quick")

    first = [held for held in (target.pick("default") for _ in range(40)) if held]
    assert sum(held.course == "quick" for held in first) == pytest.approx(30, abs=1)


def test_only_the_pools_own_slots_count() -> None:
    target = board(8)
    target.hear(beat(100, name="g2", pool="gpu"), now=T0)

    assert (target.slots("default"), target.slots("gpu"), target.slots("none"), target.slots()) == (8, 100, 0, 108)


def test_heartbeats_replace_each_other_in_the_order_of_sending() -> None:
    target = board(0)
    target.hear(beat(4, seconds=10), now=T0)
    target.hear(beat(9, seconds=5), now=at(30))
    assert target.slots() == 4

    target.hear(beat(0, seconds=5, leaving=True), now=at(30))
    assert target.slots() == 4

    target.hear(beat(0, seconds=20, leaving=True), now=T0)
    assert target.slots() == 0


def test_silent_graders_are_forgotten() -> None:
    target = board(0)
    target.hear(beat(4, name="silent"), now=T0)
    target.hear(beat(8, name="live"), now=at(20))
    target.forget_graders(silent_since=at(10))

    assert target.slots() == 8


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_our_clock_decides_whether_a_grader_is_silent(off: float) -> None:
    target = board(0)
    target.hear(beat(4, name="silent", seconds=off), now=T0)
    target.hear(beat(8, name="live", seconds=off), now=at(20))
    target.forget_graders(silent_since=at(10))

    assert target.slots() == 8


def running(name: str, execution: str, *, generation: int = 1) -> GraderHeartbeat:
    entry = RunningJob(job_id=name, generation=generation, execution_id=execution)
    return beat(4).model_copy(update={"running": [entry]})


def test_a_heartbeat_shows_that_its_jobs_have_started_and_are_alive() -> None:
    target = board(ENOUGH)
    target.keep(job("j1"))
    assert target.pick("default")
    dispatched = replace(job("j1"), state=JobState.DISPATCHED, revision=1)
    target.observe(dispatched)
    target.hear(running("j1", "e0", generation=2), now=at(1))
    assert (target.has_started("j1"), target.last_heard(dispatched)) == (False, None)

    target.hear(running("j1", "e1"), now=at(1))
    target.start("j1", 1, "e1", now=at(2))
    target.hear(running("j1", "e1"), now=at(3))

    assert target.has_started("j1")
    assert target.last_heard(dispatched) == at(3)
    assert target.last_heard(replace(dispatched, generation=2)) is None
    assert target.last_heard(job("j2")) is None
    assert books(target) == (1, 1, 0, 0)


def test_heartbeats_of_an_ended_execution_are_ignored() -> None:
    target = board(ENOUGH)
    ended = (Attempt("e1", "g1", T0, ended_at=at(1)),)
    again = replace(job("j1", state=JobState.DISPATCHED), attempts=ended)
    target.keep(again)
    target.hear(running("j1", "e1"), now=at(3))

    assert not target.has_started("j1")
    assert target.last_heard(again) is None


def test_a_heartbeat_about_a_job_that_waits_leaves_it_waiting() -> None:
    target = board(ENOUGH)
    target.keep(job("j1"))
    target.hear(running("j1", "e1"), now=at(3))

    assert books(target) == (0, 0, 0, 1)


def test_a_held_job_is_counted_in_each_state_until_it_is_dropped() -> None:
    target = board(ENOUGH)
    held = target.keep(job("j1"))
    assert books(target) == (0, 0, 0, 1)
    assert target.pools == ["default"]

    assert target.pick("default") is held
    assert books(target) == (1, 1, 1, 0)
    target.start("j1", 1, "e1", now=T0)
    target.start("j1", 1, "e1", now=T0)
    assert books(target) == (1, 1, 0, 0)

    target.settle("j1", 1, course="cs1", seconds=3)
    assert held.settled.is_set()
    target.drop(held)
    target.drop(held)
    assert books(target) == (0, 0, 0, 0)
    assert target.held == {}
    assert target.pools == []


def test_reports_of_an_earlier_generation_change_nothing() -> None:
    target = board(ENOUGH)
    held = target.keep(replace(job("j1"), generation=2))
    target.start("j1", 1, "e1", now=T0)
    target.set_back("j1", 1, not_before=T0)
    for report in (target.offer_again, target.release):
        report("j1", 1)
    target.settle("j1", 1, course="cs1", seconds=1)

    assert books(target) == (0, 0, 0, 1)
    assert not held.settled.is_set()
    target.settle("j1", 3, course="cs1", seconds=0)
    assert held.settled.is_set(), "a cancellation settles a job in the next generation"


def test_a_job_of_a_new_generation_releases_its_older_message() -> None:
    target = board(ENOUGH)
    older = target.keep(job("j1", state=JobState.RUNNING))
    newer = target.keep(replace(job("j1"), generation=2, revision=5))

    assert older.settled.is_set()
    assert not newer.settled.is_set()
    assert target.has_open("run")
    assert books(target) == (0, 0, 0, 1)


def test_an_older_revision_changes_nothing() -> None:
    target = board(ENOUGH)
    read = job("j1")
    target.keep(read)
    assert target.pick("default")
    target.observe(replace(read, state=JobState.DISPATCHED, revision=1))

    target.observe(read)
    assert books(target) == (1, 1, 1, 0)


def test_a_job_that_is_set_back_waits_and_then_goes_first() -> None:
    target = board(ENOUGH)
    keep(target, 3)
    first = target.pick("default")
    assert first
    target.start(first.job_id, 1, "e1", now=T0)

    target.set_back(first.job_id, 1, not_before=T0)
    assert books(target) == (0, 0, 0, 2)
    target.offer_again(first.job_id, 1)
    assert target.pick("default") is first


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (JobState.QUEUED, (0, 0, 0, 1)),
        (JobState.DISPATCHED, (1, 1, 1, 0)),
        (JobState.RUNNING, (1, 1, 0, 0)),
        (JobState.FINISHED, (0, 0, 0, 0)),
    ],
)
def test_a_job_can_be_held_in_every_state(state: JobState, expected: tuple[int, int, int, int]) -> None:
    target = board(ENOUGH)
    held = target.keep(job("j1", state=state))

    assert books(target) == expected
    assert held.settled.is_set() is (state is JobState.FINISHED)


def test_a_delayed_job_is_not_offered_before_its_time() -> None:
    target = board(ENOUGH)
    later = replace(job("j1"), not_before=T0 + timedelta(seconds=5), attempts=(Attempt("e1", "g1", T0),))
    target.keep(later)
    assert books(target) == (0, 0, 0, 0)

    target.observe(later, now=T0 + timedelta(seconds=4))
    assert books(target) == (0, 0, 0, 0)
    target.observe(later, now=T0 + timedelta(seconds=5))
    assert books(target) == (0, 0, 0, 1)


def test_a_job_that_waits_for_its_next_attempt_is_not_offered() -> None:
    target = board(ENOUGH)
    target.keep(replace(job("j1"), not_before=T0 + timedelta(hours=1)))

    assert books(target) == (0, 0, 0, 0)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.DISPATCHED, JobState.RUNNING])
def test_a_job_that_is_held_again_is_counted_once_and_outlives_the_older_message(state: JobState) -> None:
    target = board(ENOUGH)
    older = target.keep(job("j1", state=state))
    once = books(target)

    newer = target.keep(job("j1", state=state))
    assert books(target) == once
    target.drop(older)
    assert books(target) == once
    assert target.held == {"j1": newer}

    assert target.has_open("run")

    target.drop(newer)
    assert books(target) == (0, 0, 0, 0)
    assert not target.has_open("run")


def test_reports_of_jobs_that_are_not_held_change_nothing() -> None:
    target = board(ENOUGH)
    target.observe(job("j1"))
    target.start("j1", 1, "e1", now=T0)
    target.set_back("j1", 1, not_before=T0)
    target.offer_again("j1", 1)
    target.settle("j1", 1, course="cs1", seconds=1)

    assert books(target) == (0, 0, 0, 0)


def test_every_change_that_may_allow_a_pick_is_signaled() -> None:
    target = board(0, course("capped", concurrency=1))
    one, _ = keep(target, 2, "capped")
    assert target.pick("default") is one

    for change in (
        lambda: target.start(one.job_id, 1, "e1", now=T0),
        lambda: target.set_back(one.job_id, 1, not_before=T0),
        lambda: target.offer_again(one.job_id, 1),
        lambda: target.hear(beat(4), now=T0),
        lambda: target.set_courses([course("capped", concurrency=2)]),
        lambda: target.drop(one),
    ):
        target.changed.clear()
        change()
        assert target.changed.is_set()


def flying(*, revision: int = 3) -> tuple[Board, Job]:
    """Return a board with one job that was handed over."""
    target = board(ENOUGH)
    queued = replace(job("j1"), revision=revision)
    target.keep(queued)
    assert target.pick("default")
    assert target.hand_over(queued)
    return target, queued


def test_a_job_that_was_handed_over_flies_although_the_store_has_it_as_queued() -> None:
    target, queued = flying()

    target.observe(queued, now=T0)
    assert books(target) == (1, 1, 1, 0)
    target.start("j1", 1, "e1", now=T0)
    target.observe(queued, now=T0)
    assert books(target) == (1, 1, 0, 0)


def test_a_later_revision_that_is_queued_has_come_back() -> None:
    target, queued = flying()

    target.observe(replace(queued, revision=4), now=T0)
    assert books(target) == (0, 0, 0, 1)
    assert not target.hand_over(queued), "it was offered again before it was handed over"


def test_a_job_goes_on_flying_under_a_new_message() -> None:
    """As when a rerun of its run publishes all queued jobs, or the consumer of its course is replaced."""
    target, queued = flying()

    target.keep(queued)
    assert books(target) == (1, 1, 1, 0)
    target.start("j1", 1, "e1", now=T0)
    target.drop(target.held["j1"])
    assert books(target) == (0, 0, 0, 0)
    target.keep(queued)
    assert (books(target), target.has_started("j1")) == ((1, 1, 0, 0), True)


@pytest.mark.parametrize("changes", [{"revision": 4}, {"generation": 2, "revision": 4}])
def test_a_job_that_has_come_back_waits_under_its_new_message(changes: dict[str, int]) -> None:
    target, queued = flying()

    target.keep(replace(queued, **changes))

    assert books(target) == (0, 0, 0, 1)


def test_a_job_that_settled_between_two_messages_is_forgotten() -> None:
    target, queued = flying()
    target.drop(target.held["j1"])
    target.settle("j1", 1, course="cs1", seconds=1)
    target.keep(queued)

    assert books(target) == (0, 0, 0, 1)


def test_late_facts_about_an_earlier_attempt_do_not_end_the_flight_of_the_next_one() -> None:
    first = Attempt("e1", "g1", T0, ended_at=at(1))
    queued = replace(job("j1"), revision=5, attempts=(first,), not_before=at(2))
    target = board(ENOUGH)
    target.keep(queued)
    target.observe(queued, now=at(2))
    target.start("j1", 1, "e1", now=at(3))
    assert not target.has_started("j1")
    assert target.pick("default")

    target.set_back("j1", 1, not_before=at(2) + timedelta(microseconds=300))
    target.offer_again("j1", 1)
    assert books(target) == (1, 1, 1, 0)
    target.set_back("j1", 1, not_before=at(9))
    assert books(target) == (0, 0, 0, 0), "that one ended the second attempt"


def test_jobs_are_overdue_by_the_time_of_their_last_hand_over_until_the_store_knows_more() -> None:
    target, queued = flying()
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert target.handed_over_before(later) == [queued]
    assert target.handed_over_before(T0) == []

    target.observe(replace(queued, state=JobState.RUNNING, revision=4))
    assert target.handed_over_before(later) == []


def test_a_job_that_is_not_held_is_handed_over_only_if_the_store_says_dispatched() -> None:
    target = board(ENOUGH)
    assert target.hand_over(job("j1", state=JobState.DISPATCHED))
    assert not target.hand_over(job("j1"))


names = st.sampled_from([f"j{number}" for number in range(6)])


def able(name: str, *abilities: str, gateway: str | None = None) -> GraderHeartbeat:
    return beat(4, name=name).model_copy(update={"abilities": list(abilities), "gateway": gateway})


def test_a_job_waits_until_each_grader_at_the_broker_can_run_it() -> None:
    made = board(0)
    made.hear(able("old"), now=T0)
    made.keep(replace(job("needy"), needs=("pipes",)))
    made.keep(job("plain"))
    picked = [made.pick("default"), made.pick("default")]
    assert [held and held.job_id for held in picked] == ["plain", None], "the other jobs of its course do not wait"

    made.hear(able("new", "pipes"), now=T0)
    assert made.pick("default") is None
    made.hear(beat(4, name="old", seconds=1, leaving=True), now=T0)
    held = made.pick("default")
    assert held is not None
    assert held.job_id == "needy"


def test_a_job_with_needs_waits_for_the_first_grader_which_may_be_of_an_earlier_version() -> None:
    made = board(0)
    made.keep(replace(job("needy"), needs=("pipes",)))
    assert made.pick("default") is None
    made.hear(able("old"), now=T0)
    assert made.pick("default") is None
    made.hear(beat(4, name="old", seconds=1, leaving=True), now=T0)
    assert made.pick("default") is None
    made.hear(able("new", "pipes"), now=T0)
    assert made.pick("default") is not None


def test_a_job_that_is_offered_already_waits_when_a_grader_joins_that_cannot_run_it() -> None:
    made = board(0)
    made.hear(able("new", "pipes"), now=T0)
    made.keep(replace(job("needy"), needs=("pipes",)))
    made.hear(able("old"), now=T0)
    assert made.pick("default") is None
    made.forget_graders(silent_since=T0 + timedelta(seconds=1))
    made.hear(able("new", "pipes").model_copy(update={"sent_at": at(2)}), now=at(2))
    assert made.pick("default") is not None


def test_graders_behind_a_gateway_that_cannot_run_a_job_do_not_hold_it_up() -> None:
    made = board(0)
    made.hear(able("old", "other", gateway="api:1"), now=T0)
    made.keep(replace(job("needy"), needs=("pipes",)))
    assert made.pick("default") is None
    made.hear(able("new", "pipes"), now=T0)
    assert made.pick("default") is not None


def test_one_job_waits_ready_for_each_slot_behind_a_gateway() -> None:
    made = board(0)
    for name in ("a", "b", "c", "d"):
        made.hear(beat(1, name=name).model_copy(update={"gateway": "api:1"}), now=T0)
    made.hear(beat(4, name="e", pool="other"), now=T0)
    for number in range(20):
        made.keep(job(f"j{number}"))
        made.keep(replace(job(f"o{number}"), pool="other"))

    picked = {pool: sum(made.pick(pool) is not None for _ in range(20)) for pool in ("default", "other")}
    assert picked == {"default": 4 + 4, "other": 4 + 1}


class AnyNews(RuleBasedStateMachine):
    """Facts in any order: the board's counts match its held jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.board = board(ENOUGH, course("cs0", concurrency=2))
        self.messages: list[Held] = []

    @rule(name=names, state=st.sampled_from(list(JobState)))
    def keep(self, name: str, state: JobState) -> None:
        self.messages.append(self.board.keep(job(name, f"cs{int(name[1:]) % 2}", state=state, interactive=name > "j3")))

    @rule(name=names, state=st.sampled_from(list(JobState)))
    def observe(self, name: str, state: JobState) -> None:
        self.board.observe(job(name, f"cs{int(name[1:]) % 2}", state=state, interactive=name > "j3"))

    @rule(name=names)
    def start(self, name: str) -> None:
        self.board.start(name, 1, "e1", now=T0)

    @rule(name=names)
    def set_back(self, name: str) -> None:
        self.board.set_back(name, 1, not_before=T0)

    @rule(name=names)
    def offer_again(self, name: str) -> None:
        self.board.offer_again(name, 1)

    @rule()
    def pick(self) -> None:
        if "default" in self.board.pools and (held := self.board.pick("default")):
            assert held.in_flight
            assert self.board.held[held.job_id] is held

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if self.messages:
            self.board.drop(self.messages.pop(data.draw(st.integers(0, len(self.messages) - 1))))

    @invariant()
    def books_balance(self) -> None:
        held = self.board.held.values()
        in_flight, bulk, ready, offered = books(self.board)
        assert in_flight == sum(h.in_flight for h in held)
        assert bulk == sum(h.in_flight and h.job_class is JobClass.BULK for h in held)
        assert ready == sum(h.is_ready for h in held)
        assert offered <= sum(not h.in_flight for h in held)

    def teardown(self) -> None:
        for message in self.messages:
            self.board.drop(message)
        assert self.board.held == {}
        assert books(self.board) == (0, 0, 0, 0)
        assert not self.board.has_open("run")


TestAnyNews = AnyNews.TestCase
TestAnyNews.settings = settings(max_examples=100, stateful_step_count=30)


def test_a_job_of_a_regrade_starts_after_all_others_of_its_course_that_came_later() -> None:
    target = board(1, course("cs1"))
    work = HandedIn("a submission", "ada", T0, regrade="r")
    target.keep(replace(job("regraded"), handed_in=work))
    later = [*keep(target, 2), *keep(target, 1, interactive=True)]
    picked = []
    for _ in range(4):
        held = target.pick("default")
        assert held is not None
        picked.append(held.job_id)
        target.settle(held.job_id, held.generation, course="cs1", seconds=1)
        target.drop(held)
    assert picked == [later[2].job_id, later[0].job_id, later[1].job_id, "regraded"]

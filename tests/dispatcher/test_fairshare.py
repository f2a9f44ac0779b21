"""Fair share between courses."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.dispatcher.fairshare import CHEAPEST, DEAREST, FairShare, JobCosts, Offer
from broadway.domain.job import JobClass

BULK, INTERACTIVE = JobClass.BULK, JobClass.INTERACTIVE


def offer(share: FairShare, course: str, jobs: int = 1, *, job_class: JobClass = BULK, start: int = 0) -> None:
    for number in range(start, start + jobs):
        share.offer(Offer(f"{course}-{job_class}-{number}", course, job_class))


def picks(share: FairShare, number: int) -> list[str]:
    picked = [share.pick() for _ in range(number)]
    return [taken.course for taken in picked if taken]


def test_equal_courses_take_turns() -> None:
    share = FairShare()
    offer(share, "c1", 4)
    offer(share, "c2", 2)

    assert picks(share, 6) == ["c1", "c2", "c1", "c2", "c1", "c1"]
    assert share.pick() is None


def test_a_courses_own_jobs_keep_their_order() -> None:
    share = FairShare()
    offer(share, "c1", 3)

    assert [taken.job_id for taken in [share.pick() for _ in range(3)] if taken] == [
        f"c1-bulk-{number}" for number in range(3)
    ]


def test_a_job_may_be_put_before_the_other_jobs_of_its_course() -> None:
    share = FairShare()
    offer(share, "c1", 2)
    share.offer(Offer("again", "c1", BULK), first=True)

    taken = share.pick()
    assert taken
    assert taken.job_id == "again"


def test_a_known_job_keeps_its_place() -> None:
    share = FairShare()
    offer(share, "c1", 3)
    share.offer(Offer("c1-bulk-2", "c1", BULK), first=True)

    assert len(share) == 3
    taken = share.pick()
    assert taken
    assert taken.job_id == "c1-bulk-0"


@pytest.mark.parametrize(("weight", "expected"), [(2.0, 20), (0.5, 5), (3.0, 30), (0.1, 1)])
def test_courses_are_picked_by_weight(weight: float, expected: int) -> None:
    share = FairShare(weight=lambda course: weight if course == "heavy" else 1.0)
    offer(share, "heavy", 100)
    offer(share, "plain", 100)

    rounds = 0
    taken: Counter[str] = Counter()
    while rounds < 10:
        (course,) = picks(share, 1)
        taken[course] += 1
        rounds = taken["plain"]

    assert abs(taken["heavy"] - expected) <= max(1, weight)


def test_a_newcomer_is_served_at_once() -> None:
    share = FairShare()
    offer(share, "old", 1000)
    picks(share, 500)
    offer(share, "new", 1)

    assert "new" in picks(share, 2)


def test_a_newcomer_among_many_waits_one_round() -> None:
    share = FairShare()
    for number in range(20):
        offer(share, f"c{number}", 50)
    picks(share, 333)
    offer(share, "new", 1)

    assert "new" in picks(share, 21)


def test_interactive_jobs_come_before_their_courses_bulk_jobs() -> None:
    share = FairShare()
    offer(share, "c1", 2)
    offer(share, "c1", 2, job_class=INTERACTIVE)
    offer(share, "c2", 1)

    classes = [(taken.course, taken.job_class) for taken in [share.pick() for _ in range(5)] if taken]
    assert classes == [("c1", INTERACTIVE), ("c2", BULK), ("c1", INTERACTIVE), ("c1", BULK), ("c1", BULK)]


def test_ineligible_courses_are_skipped_and_gain_nothing() -> None:
    share = FairShare()
    offer(share, "barred", 20)
    offer(share, "free", 20)

    for _ in range(10):
        taken = share.pick(lambda offered: offered.course == "free")
        assert taken
        assert taken.course == "free"

    assert share.pick(lambda _: False) is None
    assert Counter(picks(share, 10)) == {"barred": 5, "free": 5}


def test_a_course_whose_bulk_jobs_are_barred_still_offers_its_interactive_ones() -> None:
    share = FairShare()
    offer(share, "c1", 1)
    offer(share, "c1", 1, job_class=INTERACTIVE)

    taken = share.pick(lambda offered: offered.job_class is INTERACTIVE)
    assert taken
    assert taken.job_class is INTERACTIVE
    assert share.pick(lambda offered: offered.job_class is INTERACTIVE) is None


def test_a_course_of_expensive_jobs_gets_fewer_of_them() -> None:
    share = FairShare(cost=lambda course: 4.0 if course == "slow" else 1.0)
    offer(share, "slow", 100)
    offer(share, "quick", 100)

    assert Counter(picks(share, 50)) == {"slow": 10, "quick": 40}


@pytest.mark.parametrize(("cost", "bounded"), [(1e9, DEAREST), (0.0, CHEAPEST)])
def test_an_extreme_cost_starves_no_course(cost: float, bounded: float) -> None:
    share = FairShare(cost=lambda course: cost if course == "odd" else 1.0)
    offer(share, "odd", 400)
    offer(share, "plain", 400)

    taken = Counter(picks(share, 220))
    assert taken["odd"] / taken["plain"] == pytest.approx(1 / bounded, rel=0.15)


def test_withdrawn_jobs_are_not_picked() -> None:
    share = FairShare()
    offer(share, "c1", 2)
    offer(share, "c2", 1)
    share.withdraw("c1-bulk-0")
    share.withdraw("c2-bulk-0")
    share.withdraw("unheard of")

    assert "c1-bulk-0" not in share
    assert len(share) == 1
    assert picks(share, 3) == ["c1"]


def test_costs_are_relative_to_the_average_course() -> None:
    costs = JobCosts()
    assert costs.relative("a") == 1.0

    costs.observe("a", 30.0)
    costs.observe("b", 10.0)
    assert costs.relative("a") == pytest.approx(1.5)
    assert costs.relative("b") == pytest.approx(0.5)
    assert costs.relative("new") == 1.0

    for _ in range(100):
        costs.observe("a", 10.0)
    assert costs.relative("a") == pytest.approx(1.0, rel=1e-3)


def test_jobs_without_cost_cause_no_division_by_zero() -> None:
    costs = JobCosts()
    costs.observe("a", 0.0)

    assert costs.relative("a") == 1.0


COURSES = ("c0", "c1", "c2", "c3")
arrivals = st.lists(
    st.tuples(st.sampled_from(COURSES), st.integers(min_value=1, max_value=6), st.integers(min_value=0, max_value=8)),
    min_size=1,
    max_size=40,
)


class Ledger:
    """The picks of each pair of courses since both have had waiting jobs."""

    def __init__(self) -> None:
        self.since: dict[frozenset[str], Counter[str]] = {}

    def note(self, picked: str, *, backlogged: Iterable[str]) -> None:
        waiting = set(backlogged)
        pairs = {frozenset((a, b)) for a in waiting for b in waiting if a < b}
        self.since = {pair: self.since.get(pair, Counter()) for pair in pairs}
        for pair, counted in self.since.items():
            if picked in pair:
                counted[picked] += 1
            one, other = sorted(pair)
            assert abs(counted[one] - counted[other]) <= 1, (one, other, counted)


@given(arrivals)
def test_two_backlogged_courses_never_differ_by_more_than_one(moments: list[tuple[str, int, int]]) -> None:
    share = FairShare()
    ledger = Ledger()
    waiting: Counter[str] = Counter()
    number = 0
    for course, jobs, served in moments:
        offer(share, course, jobs, start=number)
        number += jobs
        waiting[course] += jobs
        for _ in range(served):
            taken = share.pick()
            assert (taken is None) == (waiting.total() == 0)
            if taken is None:
                break
            before = [name for name in COURSES if waiting[name]]
            waiting[taken.course] -= 1
            ledger.note(taken.course, backlogged=before)


@given(arrivals)
def test_every_job_is_picked_exactly_once(moments: list[tuple[str, int, int]]) -> None:
    share = FairShare(weight=lambda course: 0.01 + COURSES.index(course), cost=lambda course: 1.0 + len(course))
    number = 0
    for course, jobs, _ in moments:
        offer(share, course, jobs, start=number)
        number += jobs

    taken = [offered.job_id for offered in iter(share.pick, None) if offered]
    assert len(taken) == len(set(taken)) == number
    assert len(share) == 0


def test_jobs_of_a_regrade_wait_for_all_others_of_their_course() -> None:
    share = FairShare()
    share.offer(Offer("regrade", "cs", JobClass.BULK, is_regrade=True), first=True)
    share.offer(Offer("roster", "cs", JobClass.BULK))
    share.offer(Offer("student", "cs", JobClass.INTERACTIVE))
    picked = [offer.job_id for _ in range(3) if (offer := share.pick())]
    assert picked == ["student", "roster", "regrade"]
    assert not share


def test_jobs_of_a_regrade_take_the_turns_of_their_course() -> None:
    share = FairShare()
    for number in range(4):
        share.offer(Offer(f"r{number}", "cs", JobClass.BULK, is_regrade=True))
        share.offer(Offer(f"o{number}", "other", JobClass.BULK))
    picked = [offer.course for _ in range(4) if (offer := share.pick())]
    assert sorted(picked) == ["cs", "cs", "other", "other"]

"""The slots that a pool asks for follow from its load, and its rate from what its graders count."""

from dataclasses import replace

import pytest

from broadway.domain.grader import Grader, GraderMode, StandingOrder
from broadway.domain.pool_load import PoolLoad, PoolSlots, Rates, StoredLoad

ONLINE = Grader("a", pool="lab", slots=4, own_slots=4, alive=True, reported_jobs=("1",))


def load(
    waiting: int = 0, running: int = 0, *, durations: tuple[float, ...] = (), rate: float | None = None
) -> PoolLoad:
    return PoolLoad(stored=StoredLoad(waiting, running, None, durations), rate=rate)


def test_slots_are_told_apart_by_the_states_of_their_graders() -> None:
    graders = [
        ONLINE,
        replace(ONLINE, id="paused", paused="its disk is full", slots=0),
        replace(ONLINE, id="draining", draining=True),
        replace(ONLINE, id="drained", draining=True, reported_jobs=()),
        replace(ONLINE, id="fewer", order=StandingOrder(1, GraderMode.ONLINE, slots=2), reported_jobs=("2", "3", "4")),
    ]
    assert PoolSlots.of(graders) == PoolSlots(live=18, busy=6, free=3, paused=4, draining=8)


@pytest.mark.parametrize(
    ("given", "target", "slots"),
    [
        (load(), 60, 0),
        (load(10), 60, 10),  # jobs of an unknown duration get a slot each
        (load(10, 3, durations=(1, 2)), 60, 13),  # two jobs say nothing
        (load(100, 3, durations=(6, 6, 6)), 60, 13),  # ten of these run on a slot within the target
        (load(100, 3, durations=(6, 6, 6)), 6, 103),
        (load(100, 3, durations=(600, 600, 600)), 60, 103),  # no job gets two slots
        (load(1, durations=(1, 1, 1)), 60, 1),
        (load(0, 2, durations=(5, 5, 5), rate=1.5), 60, 8),  # the recent rate keeps 7.5 slots busy
        (load(0, 2, rate=1.5), 60, 2),
        (load(0, 0, durations=(0, 0, 0), rate=100), 60, 0),
    ],
)
def test_the_suggestion_follows_its_formula(given: PoolLoad, target: float, slots: int) -> None:
    assert given.suggested_slots(target) == slots


def counted(**numbers: int) -> list[Grader]:
    return [replace(ONLINE, id=name, jobs_processed=number) for name, number in numbers.items()]


def test_a_rate_counts_starts_since_the_oldest_sample() -> None:
    rates = Rates(window=100, step=10)
    rates.add(0, counted(a=50, gone=7))
    assert rates.of(5, counted(a=60)) is None, "too soon to say"
    rates.add(20, counted(a=70, new=1000))
    assert rates.of(20, counted(a=70, new=1000)) == 1.0
    assert rates.of(40, counted(a=90, new=1040)) == 2.0, "a new grader counts from its first sample"
    assert rates.of(40, counted(a=0)) == 0.0, "a count that begins again is no negative rate"
    rates.add(110, counted(a=90, new=1040))
    assert rates.of(110, counted(a=90, new=1040)) == pytest.approx(60 / 90), "the first sample is too old"


def test_a_rate_survives_a_long_time_without_reads() -> None:
    rates = Rates(window=100, step=10)
    rates.add(0, counted(a=0))
    rates.add(1000, counted(a=500))
    assert rates.of(1000, counted(a=500)) == 0.5

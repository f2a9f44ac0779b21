"""Estimates of waiting times: exact where all durations are equal, within their error where they vary, or unknown."""

import heapq
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.waiting_time import FEWEST, MOST_STEPS, Pace, Wait, place_in_words, wait_of

SECONDS = st.floats(0, 1000, allow_nan=False)


@pytest.mark.parametrize(
    "pace", [Pace(), Pace([1.0], [2.0] * (FEWEST - 1)), Pace([], [2.0] * 10)], ids=["nothing", "few", "no slot"]
)
def test_an_unknown_wait_is_none(pace: Pace) -> None:
    assert wait_of(0, pace) is None


@given(st.integers(0, 50), st.integers(1, 6), st.integers(1, 100))
def test_equal_durations_give_the_exact_wait_without_error(ahead: int, slots: int, duration: int) -> None:
    elapsed = [duration * slot / slots for slot in range(slots)]

    wait = wait_of(ahead, Pace(elapsed, [float(duration)] * 5))

    assert wait is not None
    assert math.isclose(wait.seconds, _start(ahead, [duration - each for each in elapsed], iter([duration] * ahead)))
    assert wait.error == 0


@given(st.integers(0, 200), st.lists(SECONDS, min_size=1, max_size=20), st.lists(SECONDS, min_size=FEWEST, max_size=50))
def test_a_longer_queue_never_means_a_shorter_wait_nor_a_smaller_error(
    ahead: int, running: list[float], durations: list[float]
) -> None:
    first, second = (wait_of(each, Pace(running, durations)) for each in (ahead, ahead + 1))

    assert first is not None
    assert second is not None
    assert 0 <= first.seconds <= second.seconds + 1e-6
    assert 0 <= first.error <= second.error + 1e-6
    assert second.seconds <= max(durations) * (ahead + 2) + 1e-6


@given(st.lists(SECONDS, min_size=1, max_size=5), st.lists(SECONDS, min_size=FEWEST, max_size=5))
def test_a_very_long_queue_goes_on_at_the_same_pace(running: list[float], durations: list[float]) -> None:
    near, far = (wait_of(each, Pace(running, durations)) for each in (MOST_STEPS, 2 * MOST_STEPS))

    assert near is not None
    assert far is not None
    mean = sum(durations) / len(durations)
    assert math.isclose(far.seconds - near.seconds, MOST_STEPS * mean / len(running), abs_tol=1e-3)


def _start(ahead: int, rests: list[float], durations: object) -> float:
    """Return the start of a job after ``ahead`` others, on slots that become free after ``rests``."""
    free = sorted(rests)
    for _ in range(ahead):
        heapq.heapreplace(free, free[0] + next(durations))  # type: ignore[call-overload]
    return free[0]


SHAPES = {
    "alike": lambda random: random.gauss(30, 3),
    "uniform": lambda random: random.uniform(1, 60),
    "exponential": lambda random: random.expovariate(1 / 20),
    "two kinds": lambda random: 2.0 if random.random() < 0.7 else 60.0,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("slots", "ahead"), [(1, 0), (1, 10), (4, 2), (8, 40), (24, 300)])
def test_most_starts_of_simulated_histories_are_within_the_error(shape: str, slots: int, ahead: int) -> None:
    """In 200 histories with fixed seeds, each slot is observed at a moment within a job."""
    within, simulated = 0, 200
    for seed in range(simulated):
        random = Random(f"{shape} {seed}")  # noqa: S311 - a simulation
        draw = lambda random=random: max(0.01, SHAPES[shape](random))  # noqa: E731
        running = [_observed(draw, random) for _ in range(slots)]
        wait = wait_of(ahead, Pace([elapsed for elapsed, _ in running], [draw() for _ in range(60)]))
        actual = _start(ahead, [rest for _, rest in running], iter([draw() for _ in range(ahead)]))
        assert wait is not None
        within += abs(wait.seconds - actual) <= wait.error

    assert within >= 0.85 * simulated


def _observed(draw: object, random: Random) -> tuple[float, float]:
    """Return the elapsed time and the rest of a job on a slot that is observed at some moment."""
    moment, begun = random.uniform(500, 1000), 0.0
    while True:
        duration = draw()  # type: ignore[operator]
        if begun + duration > moment:
            return moment - begun, begun + duration - moment
        begun += duration


@pytest.mark.parametrize(
    ("ahead", "wait", "words"),
    [
        (0, None, "next in the queue; how long it takes is not known yet"),
        (1, Wait(40.2, 9.9), "2nd in the queue, about 41 s (± 10 s)"),
        (11, Wait(300, 0), "12th in the queue, about 5 min (± 0 s)"),
        (1102, Wait(9000, 600), "1,103rd in the queue, about 2.5 h (± 10 min)"),
    ],
)
def test_a_place_has_words(ahead: int, wait: Wait | None, words: str) -> None:
    assert place_in_words(ahead, wait) == words

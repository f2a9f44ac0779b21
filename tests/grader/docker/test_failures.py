"""Images whose pulls keep failing are held back for a while."""

import pytest

from broadway.domain.job import FaultPhase
from broadway.grader.docker.failures import FREE, LONGEST_PAUSE, REMEMBERED, Failures
from broadway.grader.ports import ContainerError

ANSWER = "image x: no such host"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failures(clock: Clock) -> Failures:
    return Failures(clock)


def fail(failures: Failures, image: str = "x", *, times: int = 1, retryable: bool = True) -> None:
    for _ in range(times):
        failures.note(image, ContainerError(ANSWER, phase=FaultPhase.PULL, retryable=retryable))


def is_held(failures: Failures, image: str = "x") -> bool:
    try:
        failures.check(image)
    except ContainerError:
        return True
    return False


@pytest.mark.parametrize("retryable", [True, False])
def test_the_error_of_an_image_that_is_held_back_has_the_registrys_answer(
    failures: Failures, *, retryable: bool
) -> None:
    fail(failures, times=FREE, retryable=retryable)
    with pytest.raises(ContainerError, match=ANSWER) as raised:
        failures.check("x")
    assert (raised.value.phase, raised.value.retryable) == (FaultPhase.PULL, retryable)
    assert str(raised.value).endswith("(pulls failed 3 times; the next one is tried in 5 s)")


def test_the_first_failures_and_other_images_are_not_held_back(failures: Failures) -> None:
    fail(failures, times=FREE - 1)
    assert not is_held(failures)
    fail(failures)
    assert is_held(failures)
    assert not is_held(failures, "another")


def test_a_pull_is_tried_again_after_pauses_that_grow_up_to_a_limit(failures: Failures, clock: Clock) -> None:
    pauses = []
    fail(failures, times=FREE - 1)
    for _ in range(12):
        fail(failures)
        begun = clock.now
        while is_held(failures):
            clock.now += 1
        pauses.append(clock.now - begun)
    assert pauses[:3] == [5, 10, 20]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_success_forgets_the_failures(failures: Failures) -> None:
    fail(failures, times=FREE + 3)
    failures.forget("x")
    fail(failures)
    assert not is_held(failures)


def test_the_memory_is_bounded(failures: Failures) -> None:
    for number in range(REMEMBERED + 1):
        fail(failures, f"image{number}", times=FREE)
    assert not is_held(failures, "image0")
    assert is_held(failures, "image1")
    assert is_held(failures, f"image{REMEMBERED}")

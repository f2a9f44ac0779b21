"""An honest job that hostile ones slow down is noticed; one that is slow for another reason is not held against them.

A test of what the corpus is tested with.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hostile.conftest import Bench
from hostile.neighbour import Neighbour

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded

QUICK, SLOW = 0.05, 0.25  # seconds


@dataclass
class Machine:
    """A bench whose jobs take as long as they are told, and longer beside a case that harms."""

    seconds: Sequence[float] = ()  # of the next honest jobs
    answer: str = "42"
    is_harmed: bool = False

    @property
    def honest(self) -> "Machine":
        return self

    async def run(self, _: list[dict[str, Any]]) -> Graded:
        seconds, *self.seconds = self.seconds or [QUICK]
        await asyncio.sleep(SLOW if self.is_harmed else seconds)
        return Graded(Outcome.SUCCEEDED, "", [], self.answer)

    async def attack(self) -> None:
        self.is_harmed = True
        await asyncio.sleep(QUICK)
        self.is_harmed = False

    async def nothing(self) -> None:
        await asyncio.sleep(QUICK)


async def neighbour(machine: Machine) -> Neighbour:
    return await Neighbour.measured(cast("Bench", machine))


async def test_a_case_that_slows_an_honest_job_down_is_named() -> None:
    machine = Machine()
    subject = await neighbour(machine)
    with subject.beside("a/bomb", machine.attack):
        await machine.attack()

    with pytest.raises(AssertionError, match="beside a/bomb"):
        await subject.check(to_the_end=True)


async def test_a_slow_machine_is_not_held_against_a_case() -> None:
    machine = Machine()
    subject = await neighbour(machine)
    machine.seconds = [SLOW, SLOW, SLOW, SLOW]  # beside the case; and once more, with one before and one after
    with subject.beside("a/sheep", machine.nothing):
        await machine.nothing()

    await subject.check(to_the_end=True)
    assert subject.solo > (QUICK + SLOW) / 2

    with subject.beside("a/sheep", machine.nothing):
        await machine.nothing()
    await subject.check(to_the_end=True)
    assert subject.solo < SLOW, "what was measured on a busy machine does not stay"


async def test_an_honest_job_that_comes_to_something_else_is_noticed() -> None:
    machine = Machine()
    subject = await neighbour(machine)
    machine.answer = "41"
    with subject.beside("a/thief", machine.nothing):
        await machine.nothing()

    with pytest.raises(AssertionError, match="41"):
        await subject.check(to_the_end=True)


async def test_honest_jobs_follow_each_other_while_a_case_runs() -> None:
    machine = Machine()
    subject = await neighbour(machine)
    machine.seconds = [QUICK] * 10
    with subject.beside("a/sheep", machine.nothing):
        await asyncio.sleep(4 * QUICK)
        await machine.nothing()

    assert len(machine.seconds) <= 7
    await subject.check(to_the_end=True)

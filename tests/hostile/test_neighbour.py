"""A wrong result of an honest job beside hostile ones is noticed: a test of the corpus's own tools."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from harness import until
from hostile.conftest import Bench
from hostile.neighbour import Neighbour

from broadway.domain.job import Outcome
from broadway.grader.grading.grade import Graded


@dataclass
class Machine:
    """A bench whose jobs end when they are allowed to."""

    answer: str = "42"
    begun: int = 0
    may_end: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    @property
    def honest(self) -> "Machine":
        return self

    async def run(self, _: list[dict[str, Any]]) -> Graded:
        self.begun += 1
        await self.may_end.acquire()
        return Graded(Outcome.SUCCEEDED, "", [], self.answer)


def neighbour(machine: Machine) -> Neighbour:
    return Neighbour(cast("Bench", machine))


async def test_a_wrong_result_of_an_honest_job_is_noticed() -> None:
    machine = Machine(answer="41")
    subject = neighbour(machine)
    with subject.beside("a/thief"):
        machine.may_end.release()

    with pytest.raises(AssertionError, match=r"41.*beside a/thief"):
        await subject.check(to_the_end=True)


async def test_honest_jobs_follow_each_other_while_a_case_runs() -> None:
    machine = Machine()
    subject = neighbour(machine)
    with subject.beside("a/sheep"):
        for number in (1, 2, 3):
            await until(lambda number=number: machine.begun == number)
            machine.may_end.release()
        await until(lambda: machine.begun == 4)
    machine.may_end.release()

    await subject.check(to_the_end=True)
    assert machine.begun == 4


async def test_two_cases_share_an_honest_job_and_both_are_named() -> None:
    machine = Machine(answer="")
    subject = neighbour(machine)
    with subject.beside("a/wolf"), subject.beside("a/sheep"):
        await until(lambda: machine.begun == 1)
    machine.may_end.release()

    with pytest.raises(AssertionError, match="a/wolf, a/sheep"):
        await subject.check(to_the_end=True)

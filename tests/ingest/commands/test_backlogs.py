"""The number of a course's waiting jobs, and how often it is read."""

import asyncio

import pytest

from broadway.ingest.commands.backlogs import LIFETIME, MOST_LIFETIME, SHARE, BacklogFullError, Backlogs


class Counted:
    """Waiting jobs, which take a while to count, by the test's clock."""

    def __init__(self, jobs: int, *, takes: float = 0.0) -> None:
        self.jobs = jobs
        self.takes = takes
        self.now = 0.0
        self.reads = 0
        self.problem: Exception | None = None
        self.backlogs = Backlogs(self, clock=lambda: self.now)

    async def count_backlog(self, _: str) -> int:
        self.reads += 1
        await asyncio.sleep(0)
        self.now += self.takes
        if self.problem:
            raise self.problem
        return self.jobs

    async def ask(self, times: int, *, most: int = 100) -> int:
        """Ask for room at the same time; return how many had none."""
        asked = (self.backlogs.demand_room("cs", 1, most=most) for _ in range(times))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in answers} <= {type(None), BacklogFullError, type(self.problem)}
        return sum(each is not None for each in answers)


async def test_callers_of_one_moment_share_a_read_and_are_counted() -> None:
    counted = Counted(7)
    assert await counted.ask(5, most=10) == 2
    assert counted.reads == 1


@pytest.mark.parametrize(("takes", "lifetime"), [(0.0, LIFETIME), (0.1, 0.1 / SHARE), (9.0, MOST_LIFETIME)])
async def test_a_count_that_takes_long_serves_longer(takes: float, lifetime: float) -> None:
    counted = Counted(0, takes=takes)
    await counted.ask(1)
    counted.now += lifetime * 0.99
    await counted.ask(1)
    assert counted.reads == 1
    counted.now += lifetime * 0.02
    await counted.ask(1)
    assert counted.reads == 2


async def test_all_callers_get_a_reads_error_and_the_next_one_reads_again() -> None:
    counted = Counted(0)
    counted.problem = LookupError("away")
    assert await counted.ask(3) == 3
    counted.problem = None
    assert await counted.ask(3) == 0
    assert counted.reads == 2

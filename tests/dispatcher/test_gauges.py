"""The counts for the gauges leave the store to others."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from broadway.dispatcher import gauges
from broadway.dispatcher.board import Board
from broadway.dispatcher.gauges import Gauges
from broadway.dispatcher.ports import Reading
from broadway.domain.course import Course
from broadway.domain.job import Job, JobClass
from broadway.messages.topology import course_queue
from broadway.runtime import pacing


@dataclass
class SlowStore:
    """A store whose answers take half a second of a clock that only they and pauses move."""

    log: list[str] = field(default_factory=list)
    now: float = 100.0

    async def count_backlog(self, course: str) -> int:
        self._ask(f"count {course}")
        return 20_000

    async def queued(self, course: str, job_class: JobClass, *, limit: int) -> list[Job]:
        self._ask(f"oldest {course} {job_class} {limit}")
        return []

    async def count(self) -> int:
        return 0

    def _ask(self, question: str) -> None:
        self.log.append(question)
        self.now += 0.5

    async def sleep(self, seconds: float) -> None:
        self.log.append(f"pause {seconds}")
        self.now += seconds

    async def end(self, _: float) -> None:
        """End the gauges instead of their pause between two rounds."""
        raise asyncio.CancelledError


class Nothing:
    """Backlogs of which the dispatcher has read all."""

    def reading(self, course: str, job_class: JobClass) -> Reading:  # noqa: ARG002
        return Reading()


async def test_each_count_of_a_course_is_followed_by_a_pause_of_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    store, board = SlowStore(), Board()
    board.set_courses([Course(id="cs101", tokens=[])])
    monkeypatch.setattr(gauges, "asyncio", SimpleNamespace(sleep=store.end, get_running_loop=asyncio.get_running_loop))
    monkeypatch.setattr(pacing, "asyncio", SimpleNamespace(sleep=store.sleep))
    monkeypatch.setattr(pacing, "time", SimpleNamespace(monotonic=lambda: store.now))
    depths = {course_queue("cs101", JobClass.BULK).name: 400}

    with pytest.raises(asyncio.CancelledError):
        await Gauges(board, list, depths, store, Nothing(), store).run()

    questions = ["count cs101", *(f"oldest cs101 {each} 1" for each in JobClass)]
    assert store.log == [line for question in questions for line in (question, "pause 0.5")]

"""Shares of the reads: so many at a time, small ones before large ones; other requests have no limit here."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Self

from broadway.ingest.http.admission import Budget, Held
from broadway.ingest.http.rights import Load
from broadway.runtime import metrics
from broadway.runtime.metrics import Limit
from broadway.runtime.turns import Turns
from broadway.settings.http import HttpSettings

# Reads at the store at a time: fewer than the driver's 100 connections, so that other requests find a free one.
RUNNING, RUNNING_LARGE = 32, 4
_SMALL, _LARGE = 0, 1


class ReadShares:
    """The places and turns of reads in one process."""

    def __init__(self, small: Budget, large: Budget) -> None:
        self._small = small
        self._large = large
        self._turns = Turns({_SMALL: RUNNING, _LARGE: RUNNING_LARGE})

    @classmethod
    def of(cls, settings: HttpSettings) -> Self:
        """Return the shares that settings ask for."""
        return cls(
            _places(Load.SMALL, settings.reads, settings.reads_per_course),
            _places(Load.LARGE, settings.large_reads, settings.large_reads_per_course),
        )

    def place(self, load: Load, course: str) -> Held:
        """Take a place among the reads of a course, until it is released; an empty name stands for all courses.

        Raises:
            LimitError: There is none.
        """
        place = Held(self._small if load is Load.SMALL else self._large, course)
        place.take(1)
        return place

    def turn(self, load: Load) -> AbstractAsyncContextManager[None]:
        """Return a context that waits for a read's turn, and holds it."""
        if load is Load.SHARED:
            return nullcontext()
        return self._turns.turn(_SMALL if load is Load.SMALL else _LARGE)

    def shared_turn(self) -> AbstractAsyncContextManager[None]:
        """Return the turn of a large read that many requests share."""
        return self._turns.turn(_LARGE)


def _places(load: Load, total: int, each: int) -> Budget:
    gauge = metrics.HTTP_READS.labels(load)
    return Budget(Limit.READS, f"many {load} reads", total, min(each, total), gauge, whose="of this course")

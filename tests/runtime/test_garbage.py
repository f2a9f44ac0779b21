"""Garbage in cycles is collected, and rarely while many objects are made that are none."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from broadway.runtime.garbage import OBJECTS, collect_rarely


class Part:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def rarely() -> Iterator[None]:
    """Collect rarely during a test."""
    before = gc.get_threshold()
    collect_rarely()
    yield
    gc.set_threshold(*before)


def test_garbage_is_collected_before_there_is_much_of_it() -> None:
    parts = [weakref.ref(Part()) for _ in range(10 * OBJECTS)]
    assert sum(part() is not None for part in parts) <= OBJECTS + 1


def test_few_collections_look_through_many_objects() -> None:
    before = gc.get_stats()[0]["collections"]
    made: list[list[int]] = [[number] for number in range(10 * OBJECTS)]
    assert gc.get_stats()[0]["collections"] - before <= 10
    assert len(made) == 10 * OBJECTS

"""Crashes in the process of a test, at points that it names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from broadway.runtime.crashpoints import VARIABLE, Point, arm

Crash = Callable[[Point], object]


@contextmanager
def armed(directory: Path) -> Iterator[Crash]:
    """Yield a function that makes the next task that reaches a point fail there."""
    file = directory / "crash"
    arm({VARIABLE: str(file)})
    try:
        yield lambda point: file.write_text(f"{point.value} raise")
    finally:
        arm({})

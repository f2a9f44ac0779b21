"""Long lists in parts of a bounded length, one after another."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def in_parts(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    """Yield the items in order, ``most`` at a time."""
    return (items[start : start + most] for start in range(0, len(items), most))

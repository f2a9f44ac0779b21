"""The collection of garbage in reference cycles."""

import gc

OBJECTS = 10_000  # new ones between two collections; Python's 700 suit programs with few objects


def collect_rarely() -> None:
    """Collect garbage after more new objects than Python does.

    A class has many thousands of objects, none of which is garbage while it is read; Python would look through them
    again and again, which took a third of the processor time of a draft.
    """
    gc.set_threshold(OBJECTS, 10, 10)

"""Measurement of contenders in turn, so that other load on the machine affects all of them alike."""

from collections.abc import Awaitable, Callable, Mapping
from itertools import islice

import structlog

from benchmarks.samples import Figure, Results

log = structlog.get_logger(__name__)

Measure = Callable[[], Awaitable[Mapping[Figure, float]]]


async def interleave(contenders: Mapping[str, Measure], *, rounds: int, into: Results, warm_up: bool = True) -> None:
    """Measure every contender once in each round; the first contender changes from round to round.

    With ``warm_up``, a round before the first one is not counted. A contender that fails is excluded, and its reason is
    recorded.
    """
    remaining = dict(contenders)
    for number in range(-1 if warm_up else 0, rounds):
        for name in _rotated(list(remaining), max(number, 0)):
            try:
                taken = await remaining[name]()
            except Exception as error:  # noqa: BLE001 - a contender that cannot be measured is a finding
                into.fail(name, f"{type(error).__name__}: {error}")
                log.warning("could not be measured", contender=name, reason=str(error))
                del remaining[name]
                continue
            if number >= 0:
                into.add(name, taken)


def _rotated(names: list[str], by: int) -> list[str]:
    start = by % len(names) if names else 0
    return [*islice(names, start, None), *islice(names, start)]

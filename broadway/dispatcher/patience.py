"""The waiting times of the reconciler."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Patience:
    """The reconciler's waiting times, before it treats work as stuck or checks again.

    Args:
        second_look: Seconds between two checks that must both miss a job in its queue before it is published again. No
            message is in transit that long.
        dispatch: The time after which an untaken job's queue is checked.
        busy: Seconds between two checks of a course whose runs are being published, so that its jobs change, or whose
            queue is deep.
        longest_rest: The longest pause between two thorough sweeps, in seconds, so that one slow answer of the store
            does not postpone the next sweep for long.
    """

    second_look: float = 3.0
    dispatch: timedelta = timedelta(seconds=5)
    busy: float = 300.0
    longest_rest: float = 60.0


PATIENCE = Patience()

"""Following a resource of the API until it is over."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from broadway.session import ClientError, Waiting

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0  # seconds between two looks; the pauses grow
OUTAGE = 120.0  # seconds without an answer after which following ends

Resource = TypeVar("Resource")


def changes(
    look: Callable[[], Resource | None],
    is_over: Callable[[Resource], bool],
    *,
    within: float,
    pause: Callable[[float], None],
    waiting: Waiting,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Resource]:
    """Yield a resource, and again after each change, until it is over or ``within`` seconds have passed.

    ``look`` returns the resource, or None if it has not changed. After a first answer the server may be away for
    ``OUTAGE`` seconds, as it is when it is replaced; ``waiting`` is called once for each such time.

    Raises:
        ClientError: The server refuses the request, or cannot be reached at first or for too long.
    """
    end, answered, is_away, seconds = clock() + within, None, False, FIRST_PAUSE
    while True:
        try:
            found = look()
            answered, is_away = clock(), False
        except ClientError as error:
            if answered is None or not error.may_pass or clock() - answered > OUTAGE:
                raise
            if not is_away:
                waiting(LONGEST_PAUSE, str(error))
            found, is_away, seconds = None, True, LONGEST_PAUSE
        if found is not None:
            yield found
            if is_over(found):
                return
        left = end - clock()
        if left <= 0:
            return
        pause(min(seconds, left))
        seconds = min(1.5 * seconds, LONGEST_PAUSE)

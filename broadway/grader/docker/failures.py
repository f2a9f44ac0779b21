"""Images whose pulls keep failing: held back for a while, so that they cost registries, slots and students less."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from broadway.domain.job import FaultPhase
from broadway.grader.ports import ContainerError

FREE = 3  # failed pulls of an image before it is held back
FIRST_PAUSE = 5.0  # seconds; doubles with each further failure
LONGEST_PAUSE = 60.0  # seconds
REMEMBERED = 1000  # images


@dataclass(slots=True)
class _Failure:
    count: int
    until: float
    reason: str
    retryable: bool


@dataclass(slots=True)
class Failures:
    """The failed pulls of each image since its last successful one; the images that failed longest ago are dropped."""

    now: Callable[[], float] = time.monotonic
    _images: OrderedDict[str, _Failure] = field(default_factory=OrderedDict)

    def check(self, image: str) -> None:
        """Return if an image may be pulled now.

        Raises:
            ContainerError: It is held back; the text has the registry's answer to the last pull.
        """
        failure = self._images.get(image)
        if failure is None or (left := failure.until - self.now()) <= 0:
            return
        reason = f"{failure.reason} (pulls failed {failure.count} times; the next one is tried in {left:.0f} s)"
        raise ContainerError(reason, phase=FaultPhase.PULL, retryable=failure.retryable)

    def note(self, image: str, error: ContainerError) -> None:
        """Record a failed pull."""
        earlier = self._images.pop(image, None)
        count = (earlier.count if earlier else 0) + 1
        pause = min(FIRST_PAUSE * 2 ** min(count - FREE, 10), LONGEST_PAUSE) if count >= FREE else 0.0
        self._images[image] = _Failure(count, self.now() + pause, str(error), error.retryable)
        while len(self._images) > REMEMBERED:
            self._images.popitem(last=False)

    def forget(self, image: str) -> None:
        """Forget an image's failures after a successful pull."""
        self._images.pop(image, None)

"""The runs whose jobs take almost no time, so that more of them may be ready than slots can take at once."""

READY_SECONDS = 0.1  # ready jobs may keep all slots busy for this long
MAX_READY = 4.0  # jobs that are ready for each slot, at most
ENOUGH = 8  # jobs of a run must have ended before their times are trusted
SMOOTHING = 0.2


class Paces:
    """Moving averages of the seconds of jobs in a slot, by run.

    Jobs of one run are alike, while those of a course's next run may take hours.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}

    def observe(self, run_id: str, seconds: float) -> None:
        """Add the time that a job held its slot. A job that never had one says nothing."""
        if seconds > 0:
            number, average = self._known.get(run_id, (0, seconds))
            self._known[run_id] = number + 1, average + SMOOTHING * (seconds - average)

    def forget(self, run_id: str) -> None:
        """Forget a run; an unknown run is no error."""
        self._known.pop(run_id, None)

    def early(self, run_id: str, *, above: float) -> float:
        """Return how many of a run's jobs may be ready for each slot; 0 if they are not more than ``above``."""
        number, average = self._known.get(run_id, (0, 0.0))
        share = READY_SECONDS / max(average, READY_SECONDS / MAX_READY)
        return share if number >= ENOUGH and share > above else 0.0

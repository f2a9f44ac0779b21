"""Times of an engine whose clock differs from the grader's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadway.grader.docker.container import SIGNAL_WITHIN, period

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)  # by the engine's clock, which no other clock is compared with


def details(*, created: float, started: float, finished: float) -> dict[str, Any]:
    """Return an engine's description; times are in seconds before the engine's present."""
    text = [f"{NOW - timedelta(seconds=each):%Y-%m-%dT%H:%M:%S.%f}000Z" for each in (created, started, finished)]
    return {"Created": text[0], "State": {"StartedAt": text[1], "FinishedAt": text[2]}}


def test_the_period_ends_at_the_engines_present() -> None:
    since, until = period(details(created=10, started=9, finished=0.02), elapsed=10)
    assert (since, until) == (NOW.timestamp() - 9, NOW.timestamp())


@pytest.mark.parametrize("elapsed", [0.0, 3.0, 7200.0])
def test_the_period_is_never_long_and_never_ends_before_it_begins(elapsed: float) -> None:
    """The engine's own clock was set back or forward while the container ran."""
    since, until = period(details(created=10, started=9, finished=1), elapsed=elapsed)
    assert since <= until <= NOW.timestamp() - 1 + SIGNAL_WITHIN

"""Times with the precision that the store keeps, so that a stored time equals its first value."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the present time in UTC, in whole milliseconds."""
    return in_milliseconds(datetime.now(UTC))


def in_milliseconds(moment: datetime) -> datetime:
    """Return a time without the part below a millisecond."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

"""Times, durations, sizes and numbers as pages write them."""

from datetime import UTC, datetime

_SECOND, _MINUTE, _HOUR, _DAY = 1, 60, 3600, 86400
_KB = 1000
_TENTHS_BELOW = 10


def duration(seconds: float | None) -> str:
    """Return a duration with one unit, such as ``3.1 s`` or ``12 min``; a dash for None."""
    if seconds is None:
        return "\N{EN DASH}"
    seconds = max(0.0, seconds)
    for unit, word in ((_DAY, "days"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit * (2 if unit > _MINUTE else 1.5):
            return f"{round(seconds / unit)} {word}"
    return f"{seconds:.1f} s" if seconds < _TENTHS_BELOW else f"{round(seconds)} s"


def ago(at: datetime | None, now: datetime) -> str:
    """Return a time relative to now, such as ``3 min ago`` or ``in 2 h``."""
    if at is None:
        return "\N{EN DASH}"
    seconds = (now - at).total_seconds()
    if abs(seconds) < _SECOND:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def exact(at: datetime | None) -> str:
    """Return a time with its zone, to the second."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def size(count: int | None) -> str:
    """Return a number of bytes in B, kB or MB."""
    if count is None:
        return "\N{EN DASH}"
    if count < _KB:
        return f"{count} B"
    return f"{count / _KB:.1f} kB" if count < _KB * _KB else f"{count / _KB / _KB:,.1f} MB"


def number(count: int) -> str:
    """Return a count with separators between thousands."""
    return f"{count:,}"

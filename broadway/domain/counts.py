"""Counts in words."""


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, such as ``1 student`` or ``2,000 students``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

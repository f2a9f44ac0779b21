"""The trace that a run belongs to, as W3C Trace Context has it: ids that are passed on, and nothing else. Pure.

A run keeps the `traceparent` of the request that submitted it; every event about it and its jobs carries the same one,
and every log line its trace id.
"""

import re
from secrets import token_hex

HEADER = "traceparent"

_SHAPE = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)


def accepted(traceparent: str | None) -> str | None:
    """A `traceparent` that somebody sends, if it is one: version 00, or a later one that begins like it."""
    shape = _SHAPE.fullmatch((traceparent or "").strip())
    if shape is None or shape["version"] == "ff" or (shape["version"] == "00" and shape["more"]):
        return None
    if not int(shape["trace"], 16) or not int(shape["parent"], 16):
        return None
    return shape[0][: shape.start("more")] if shape["more"] else shape[0]


def begun() -> str:
    """The `traceparent` of a new trace, which nobody samples."""
    return f"00-{token_hex(16)}-{token_hex(8)}-00"


def log_ids(traceparent: str | None, **ids: str) -> dict[str, str]:
    """What log lines about something are joined by: its ids, and its trace if it has one."""
    trace = trace_id(traceparent)
    return {**ids, "trace": trace} if trace else ids


def trace_id(traceparent: str | None) -> str | None:
    """The trace of an accepted `traceparent`."""
    return traceparent.split("-")[1] if traceparent else None

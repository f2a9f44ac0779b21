"""The trace of a run, by W3C Trace Context: its ids are passed on; the module ``spans`` makes its spans. Pure.

A run keeps the `traceparent` of the request that submitted it. Every event about the run and its jobs has the same
`traceparent`, and every log line its trace id.
"""

import re
from secrets import token_hex

HEADER = "traceparent"

_SHAPE = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)


def accepted(traceparent: str | None) -> str | None:
    """Return a received `traceparent` without the additions of versions after 00, or None if it is invalid."""
    shape = _SHAPE.fullmatch((traceparent or "").strip())
    if shape is None or shape["version"] == "ff" or (shape["version"] == "00" and shape["more"]):
        return None
    if not int(shape["trace"], 16) or not int(shape["parent"], 16):
        return None
    return shape[0][: shape.start("more")] if shape["more"] else shape[0]


def begun() -> str:
    """Return the `traceparent` of a new trace, which is not sampled."""
    return f"00-{token_hex(16)}-{token_hex(8)}-00"


def continued(traceparent: str) -> str:
    """Return the `traceparent` of a new span in the trace of an accepted one."""
    version, trace, _, flags = traceparent.split("-")
    return f"{version}-{trace}-{token_hex(8)}-{flags}"


def ids_of(traceparent: str) -> tuple[str, str]:
    """Return the trace id and the span id of an accepted `traceparent`."""
    _, trace, span, _ = traceparent.split("-")
    return trace, span


def log_ids(traceparent: str | None, **ids: str) -> dict[str, str]:
    """Return the ids for log lines about an object: its own, and its trace id if it has a trace."""
    trace = trace_id(traceparent)
    return {**ids, "trace": trace} if trace else ids


def trace_id(traceparent: str | None) -> str | None:
    """Return the trace id of an accepted `traceparent`."""
    return ids_of(traceparent)[0] if traceparent else None

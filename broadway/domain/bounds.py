"""Types with bounds for values from outside: ids, texts, counts, times and documents. Pure.

A value that identifies something is refused if it is too long. A text for people is cut instead, since the rest of its
message is still worth having.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

MAX_INT, MIN_INT = 2**63 - 1, -(2**63)  # that the store can hold
MAX_ID = 255  # characters, and the broker's limit for a routing key
MAX_COUNT = 2**53  # the largest whole number that every JSON reader keeps
MAX_SECONDS = 1e9
MAX_LOG = 1024 * 1024  # characters of one execution's log
MAX_DEPTH = 32  # of objects and lists in each other
MAX_STAGES = 200  # of a pipeline, and results of a job
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_MARK = re.compile(r"\n\[broadway\] cut here: \d{1,15} more characters were not kept\n")
_LONGEST_MARK = 100  # characters


@dataclass(frozen=True, slots=True)
class Cut:
    """The bound of a text that is cut: its first ``most`` characters, and a last line that says so."""

    most: int

    def __call__(self, text: str) -> str:
        if len(text) <= self.most or (len(text) <= self.most + _LONGEST_MARK and _MARK.fullmatch(text, self.most)):
            return text
        return f"{text[: self.most]}\n[broadway] cut here: {len(text) - self.most} more characters were not kept\n"


def cut(most: int) -> AfterValidator:
    """Return a validator that cuts longer texts to ``most`` characters."""
    return AfterValidator(Cut(most))


def _known_time(moment: datetime) -> datetime:
    if not _FIRST <= moment < _LAST:
        raise ValueError(f"expected a time from {_FIRST:%Y} to {_LAST:%Y}")
    return moment


def shallow(document: Any) -> Any:
    """Return a document if its depth is within its bound.

    Raises:
        ValueError: It is not.
    """
    level, depth = [document], 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        containers = (value.values() if isinstance(value, Mapping) else value for value in level)
        level = [inner for values in containers for inner in values if isinstance(inner, Mapping | list | tuple)]
        depth += 1
    return document


Id = Annotated[str, StringConstraints(max_length=MAX_ID)]
Reason = Annotated[str, cut(4000)]
Log = Annotated[str, cut(MAX_LOG)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
Time = Annotated[AwareDatetime, AfterValidator(_known_time)]
Documents = Annotated[list[dict[str, Any]], Field(max_length=MAX_STAGES), AfterValidator(shallow)]

"""Messages with several events of one kind, their parts.

A batch saves the broker and its clients most of a message's cost. The code that consumes a queue expands batches, so
that handlers, dead letters and metrics know single events only. One event alone is sent in its single form.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from broadway.domain.trace import accepted
from broadway.messages.events import Event, JobFinished, JobQueued, JobSettled

MAX_BYTES = 1024 * 1024  # of a batch's body
_GROWTH = 3  # two bytes of UTF-8 become six in a body, as \uXXXX
_OVERHEAD = 500  # bytes of a body besides its parts


class Batch(Event):
    """Several events of one kind and one owner, each with its trace in the body."""

    names_fact: ClassVar[bool] = True
    most: ClassVar[int]  # parts

    parts: Annotated[Sequence[Event], Field(min_length=1, max_length=200)]

    @staticmethod
    def owner(part: Any) -> tuple[str, ...]:
        """Return the value that all parts of a batch have in common."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _have_one_owner(self) -> Self:
        if len({self.owner(part) for part in self.parts}) > 1:
            raise ValueError("expected parts with one owner, such as a course")
        return self

    @property
    def context(self) -> dict[str, Any]:
        return {"jobs": len(self.parts)}

    @property
    def subject(self) -> str:
        return f"{', '.join(self.owner(self.parts[0]))} ({len(self.parts)} jobs)"

    @property
    def identity(self) -> str:
        """An id that follows from the parts: the same parts have the same id, from any sender and at any time."""
        digest = hashlib.sha256("\n".join(part.identity for part in self.parts).encode()).hexdigest()
        return f"{self.type}:{digest[:32]}"


class JobsQueued(Batch):
    """Jobs of one course and class that wait in its backlog."""

    type: ClassVar[str] = "jobs.queued.v1"
    most: ClassVar[int] = 50

    parts: Annotated[list[JobQueued], Field(min_length=1, max_length=most)]

    @staticmethod
    def owner(part: JobQueued) -> tuple[str, ...]:
        return part.course, part.job_class


class JobsFinished(Batch):
    """Outcomes that one grader reports together."""

    type: ClassVar[str] = "jobs.finished.v1"
    most: ClassVar[int] = 50

    parts: Annotated[list[JobFinished], Field(min_length=1, max_length=most)]

    @staticmethod
    def owner(part: JobFinished) -> tuple[str, ...]:
        return (part.grader_id,)


class JobsSettled(Batch):
    """Jobs of one course whose outcomes are stored and final."""

    type: ClassVar[str] = "jobs.settled.v1"
    most: ClassVar[int] = 200

    parts: Annotated[list[JobSettled], Field(min_length=1, max_length=most)]

    @staticmethod
    def owner(part: JobSettled) -> tuple[str, ...]:
        return (part.course,)


def parts_of(event: Event) -> list[Event]:
    """Return the parts of a batch, with their traces if these are valid, or a single event itself."""
    return [_with_accepted_trace(part) for part in event.parts] if isinstance(event, Batch) else [event]


def _with_accepted_trace(part: Event) -> Event:
    """Return a part without an invalid trace; the trace of a single event is checked where its headers are read."""
    trace = accepted(part.traceparent)
    return part if trace == part.traceparent else part.model_copy(update={"traceparent": trace})


def packed(kind: type[Batch], events: Iterable[Event], *, most: int | None = None) -> list[Event]:
    """Return events, all of one kind and in their order, as few messages of at most ``most`` events.

    An event alone, or one that is too large for a batch, keeps its single form. Neighbors with different owners, such
    as jobs of two courses, are in different messages.
    """
    limit = kind.most if most is None else min(most, kind.most)
    by_owner = itertools.groupby(events, key=kind.owner)
    groups = itertools.chain.from_iterable(_groups(neighbors, limit) for _, neighbors in by_owner)
    return [group[0] if len(group) == 1 else kind(parts=group) for group in groups]


def _groups(events: Iterable[Event], limit: int) -> Iterator[list[Event]]:
    group: list[Event] = []
    size = _OVERHEAD
    for event in events:
        more = _GROWTH * len(event.model_dump_json().encode()) + 1
        if group and (len(group) >= limit or size + more > MAX_BYTES):
            yield group
            group, size = [], _OVERHEAD
        group.append(event)
        size += more
    if group:
        yield group

"""Lists of runs by time, latest first, at a cost that does not grow with the runs before those of the page."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from broadway.domain.pages import position
from broadway.mongo.collection import Document, Documents, object_id

# A store may read and sort all runs of a range to return the latest of them, so ranges begin small.
SPANS = (timedelta(minutes=5), timedelta(hours=3), timedelta(days=5), timedelta(days=200))
MANY = 30  # assignments; a list of more is one question
_LATEST_FIRST = [("started_at", -1), ("_id", -1)]


async def latest(
    runs: Documents, names: Sequence[str], fields: Document, *, before: str | None, limit: int
) -> list[Document]:
    """Return documents of the runs of assignments, latest first; ``before`` is the cursor of a page.

    Raises:
        CursorError: ``before`` is not a valid cursor.
    """
    place = position(before) if before else None
    if len(names) <= MANY:
        found: list[Document] = []
        for span in _spans(place):
            questions = ({"assignment_id": name, "started_at": span} for name in names)
            answers = await asyncio.gather(
                *(runs.find(question, fields, sort=_LATEST_FIRST, limit=limit) for question in questions)
            )
            found += [document for some in answers for document in some if _is_after(document, place)]
            if len(found) >= limit:
                return sorted(found, key=_time_and_id, reverse=True)[:limit]
    # The course has few runs, or few of them are recent. Runs of the original may have no time.
    query: Document = {"assignment_id": {"$in": list(names)}}
    if place:
        query |= following("started_at", place[0], object_id(place[1]))
    return await runs.find(query, fields, sort=_LATEST_FIRST, limit=limit)


def following(time: str, at: datetime, identity: Any) -> Document:
    """Return the filter for the documents after a position, in descending order of the field ``time`` and of the id."""
    return {"$or": [{time: {"$lt": at}}, {time: at, "_id": {"$lt": identity}}]}


def _spans(place: tuple[datetime, str] | None) -> Iterator[Any]:
    """Yield conditions on the time, from the latest on."""
    end = place[0] if place else datetime.now(UTC)
    if place:
        yield end  # several runs may have the time of the cursor
    upper = {"$lt": end} if place else {}  # hosts' clocks differ, so the latest run may be in the future
    for span in SPANS:
        yield {"$gte": end - span, **upper}
        upper = {"$lt": end - span}


def _is_after(document: Document, place: tuple[datetime, str] | None) -> bool:
    return place is None or _time_and_id(document) < (place[0], object_id(place[1]))


def _time_and_id(document: Document) -> tuple[datetime, Any]:
    return document["started_at"], document["_id"]

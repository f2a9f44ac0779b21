"""The collection ``course``."""

from collections.abc import Sequence
from typing import TypeGuard

import structlog
from pydantic import ValidationError

from broadway.domain.course import MAX_CONCURRENCY, Course, hashed
from broadway.mongo.collection import Collection, Document, Documents

log = structlog.get_logger(__name__)


class Courses:
    """Courses by id."""

    def __init__(self, collection: Collection) -> None:
        self._courses = Documents(collection)

    async def get(self, course_id: str) -> Course | None:
        """Return a course; None if it does not exist or its document is invalid. An invalid document is logged."""
        return (await self.get_many([course_id])).get(course_id)

    async def get_many(self, course_ids: Sequence[str]) -> dict[str, Course]:
        """Return courses by id, without invalid documents, which are logged."""
        found = await self._courses.find({"_id": {"$in": list(course_ids)}})
        return {course.id: course for document in found if (course := _course(document))}

    async def all(self) -> list[Course]:
        """Return every course, without invalid documents, which are logged."""
        return [course for d in await self._courses.find({}) if (course := _course(d))]

    async def hash_tokens(self) -> list[str]:
        """Replace tokens that another program has stored as plain text by their hashes; return the courses' ids.

        A list that another program changes at the same time keeps that change.
        """
        candidates = [(d, _hashes(d)) for d in await self._courses.find({})]
        return [str(document["_id"]) for document, hashes in candidates if await self._replace(document, hashes)]

    async def _replace(self, document: Document, hashes: Document) -> bool:
        if not hashes:
            return False
        unchanged = {"_id": document["_id"], **{key: {"$eq": document[key]} for key in hashes}}
        return (await self._courses.update_one(unchanged, {"$set": hashes})).modified_count == 1

    async def add(self, course: Course) -> bool:
        """Store a course; return False, and change nothing, if there is one with its id."""
        new = {"$setOnInsert": course.model_dump(exclude={"id"})}
        return (await self._courses.update_one({"_id": course.id}, new, upsert=True)).upserted_id is not None

    async def replace_all(self, courses: list[Course]) -> None:
        """Replace all courses but those that operators have added and the new ones do not name.

        Each course is replaced in place, so that it is never missing.
        """
        for course in courses:
            await self._courses.replace_one({"_id": course.id}, course.model_dump(exclude={"id"}), upsert=True)
        await self._courses.delete_many({"_id": {"$nin": [course.id for course in courses]}, "is_added": {"$ne": True}})


def _course(document: Document) -> Course | None:
    try:
        return Course.model_validate({**_within_bounds(document), "id": document["_id"]})
    except ValidationError as error:
        log.warning("course left out", course=str(document["_id"]), problems=error.error_count())
        return None


def _within_bounds(document: Document) -> Document:
    """Return a document without a cap beyond the broker's limit, which an earlier version took."""
    cap = document.get("concurrency")
    if not isinstance(cap, int) or cap <= MAX_CONCURRENCY:
        return document
    log.warning("concurrency is too large", course=str(document["_id"]), concurrency=cap, used=MAX_CONCURRENCY)
    return {**document, "concurrency": MAX_CONCURRENCY}


def _hashes(document: Document) -> Document:
    """Return the lists of tokens that contain plain text, hashed, by their field."""
    lists = {key: document.get(key) for key in ("tokens", "query_tokens")}
    plain = {key: tokens for key, tokens in lists.items() if _is_texts(tokens)}
    return {key: hashes for key, tokens in plain.items() if (hashes := [hashed(token) for token in tokens]) != tokens}


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)

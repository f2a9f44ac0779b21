"""The collection ``course``."""

import structlog
from pydantic import ValidationError

from broadway.course import Course
from broadway.mongo.collection import Collection, Document

log = structlog.get_logger(__name__)


class Courses:
    """Courses by id."""

    def __init__(self, collection: Collection) -> None:
        self._courses = collection

    async def get(self, course_id: str) -> Course | None:
        document = await self._courses.find_one({"_id": {"$eq": course_id}})
        return _course(document) if document else None

    async def all(self) -> list[Course]:
        """Every course that can be served; one that another program has stored wrongly is left out, and said."""
        courses = []
        for document in await self._courses.find().to_list():
            try:
                courses.append(_course(document))
            except ValidationError as error:
                log.warning("course left out", course=str(document["_id"]), problems=error.error_count())
        return courses

    async def replace_all(self, courses: list[Course]) -> None:
        """Make these the only courses. Each is replaced in place, so that none is missing in between."""
        for course in courses:
            await self._courses.replace_one({"_id": course.id}, course.model_dump(exclude={"id"}), upsert=True)
        await self._courses.delete_many({"_id": {"$nin": [course.id for course in courses]}})


def _course(document: Document) -> Course:
    return Course.model_validate({**document, "id": document["_id"]})

"""The collections ``extension``, ``late_day_claim`` and ``chosen_submission``."""

from broadway.domain.extension import MAX_EXTENSIONS, Extension, ExtensionOrder
from broadway.mongo.collection import Collection, Document, Documents, insert_each

_DIGITS = 9  # of a number in an id, so that ids are in the order of numbers


class Extensions:
    """Extensions, with the ids ``<course>/<assignment>/<number>``. A stored one never changes."""

    def __init__(self, collection: Collection) -> None:
        self._extensions = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._extensions.create_index([("course", 1), ("assignment", 1)], name="of_assignment")

    async def of_assignment(self, course: str, assignment: str) -> list[Extension]:
        """Return all extensions of an assignment, in the order in which they were added."""
        found = await self._extensions.find({"course": course, "assignment": assignment}, limit=MAX_EXTENSIONS)
        return sorted(map(_extension, found), key=lambda extension: extension.id)

    async def add(self, course: str, assignment: str, extension: Extension, *, number: int) -> bool:
        """Store an extension with the next number, from 1; return False if another one has its number."""
        document: Document = {
            "_id": f"{course}/{assignment}/{number:0{_DIGITS}}",
            "course": course,
            "assignment": assignment,
            "order": extension.order.model_dump(mode="json", exclude_defaults=True),
            "at": extension.at,
            "by": extension.by,
        }
        return (await insert_each(self._extensions, [document]))[0]


class LateDayClaimStore:
    """The late days that students have claimed, one document per student and assignment."""

    def __init__(self, collection: Collection) -> None:
        self._claims = _OfStudents(collection)

    async def ensure_indexes(self) -> None:
        await self._claims.ensure_indexes()

    async def of_assignment(self, course: str, assignment: str) -> dict[str, int]:
        """Return the days by student; those without a claim are left out."""
        return {each["student"]: each["days"] for each in await self._claims.of_assignment(course, assignment)}

    async def of_student(self, course: str, assignment: str, student: str) -> int:
        """Return the days of a student, 0 without a claim."""
        found = await self._claims.get(course, assignment, student)
        return found["days"] if found else 0

    async def put(self, course: str, assignment: str, student: str, days: int) -> None:
        """Store the days of a student; they replace an earlier claim."""
        await self._claims.put(course, assignment, student, {"days": days})


class ChosenSubmissionStore:
    """The submissions that students have chosen, one document per student and assignment."""

    def __init__(self, collection: Collection) -> None:
        self._choices = _OfStudents(collection)

    async def ensure_indexes(self) -> None:
        await self._choices.ensure_indexes()

    async def of_assignment(self, course: str, assignment: str) -> dict[str, str]:
        """Return the ids of submissions by student; those without a choice are left out."""
        found = await self._choices.of_assignment(course, assignment)
        return {each["student"]: each["submission"] for each in found if each["submission"]}

    async def of_student(self, course: str, assignment: str, student: str) -> str | None:
        """Return the id of the submission that a student has chosen, or None."""
        found = await self._choices.get(course, assignment, student)
        return found["submission"] if found else None

    async def put(self, course: str, assignment: str, student: str, submission: str | None) -> None:
        """Store a student's choice; None takes it back."""
        await self._choices.put(course, assignment, student, {"submission": submission})


class _OfStudents:
    """Documents by course, assignment and student, whose names may have any characters."""

    def __init__(self, collection: Collection) -> None:
        self._documents = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._documents.create_index([("course", 1), ("assignment", 1)], name="of_assignment")

    async def of_assignment(self, course: str, assignment: str) -> list[Document]:
        return await self._documents.find({"course": course, "assignment": assignment})

    async def get(self, course: str, assignment: str, student: str) -> Document | None:
        return await self._documents.find_one({"_id": _id(course, assignment, student)})

    async def put(self, course: str, assignment: str, student: str, values: Document) -> None:
        document = {"course": course, "assignment": assignment, "student": student, **values}
        await self._documents.replace_one({"_id": _id(course, assignment, student)}, document, upsert=True)


def _id(course: str, assignment: str, student: str) -> str:
    return f"{course}/{assignment}/{student}"  # ids of courses and assignments have no slashes


def _extension(document: Document) -> Extension:
    identity = str(document["_id"]).rpartition("/")[2]
    return Extension(identity, ExtensionOrder.model_validate(document["order"]), document["at"], document.get("by", ""))

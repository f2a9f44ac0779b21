"""The collections ``hook``, ``roster``, ``hook_delivery`` and ``hook_quota``."""

import re
from collections import OrderedDict
from datetime import datetime, timedelta
from secrets import token_hex

import structlog
from pydantic import ValidationError

from broadway.domain.roster import Roster, RosterEntry
from broadway.domain.webhook import Hook, HookConfig, Quota
from broadway.mongo.assignments import check_storable
from broadway.mongo.cache import Cache
from broadway.mongo.collection import Collection, Document, Documents
from broadway.mongo.errors import DuplicateKeyError

log = structlog.get_logger(__name__)

_REVISION = 8  # bytes
MOST_ROSTERS = 10_000  # of one student
MOST_KNOWN = 50_000  # entries of all remembered rosters together


class Hooks:
    """Hooks, by ``<course>/<name>``."""

    def __init__(self, collection: Collection) -> None:
        self._hooks = Documents(collection)
        self._cache = Cache(self._read)

    async def get(self, course: str, name: str) -> Hook | None:
        """Return a hook; None if it does not exist or its document is invalid. An invalid document is logged."""
        return await self._read(f"{course}/{name}")

    async def recent(self, course: str, name: str) -> Hook | None:
        """Return a hook from a cache that is at most a moment old, or None."""
        return await self._cache.get(f"{course}/{name}")

    async def _read(self, identity: str) -> Hook | None:
        document = await self._hooks.find_one({"_id": identity})
        return _hook(document) if document else None

    async def of_course(self, course: str) -> list[Hook]:
        """Return a course's hooks, sorted by name."""
        found = await self._hooks.find({"course": course}, sort=[("_id", 1)])
        return [hook for document in found if (hook := _hook(document))]

    async def count(self, course: str, *, without: str) -> int:
        """Return the number of a course's hooks of other names."""
        return await self._hooks.count_documents({"course": course, "_id": {"$ne": f"{course}/{without}"}})

    async def put(self, hook: Hook) -> None:
        """Store a hook; it replaces an earlier hook completely."""
        identity = f"{hook.course}/{hook.name}"
        document = {"course": hook.course, "name": hook.name, **hook.config.model_dump(mode="json")}
        await self._hooks.replace_one({"_id": identity}, document, upsert=True)
        self._cache.forget(identity)

    async def delete(self, course: str, name: str) -> bool:
        """Remove a hook; return False if it does not exist. Its deliveries stay."""
        identity = f"{course}/{name}"
        deleted = await self._hooks.delete_one({"_id": identity})
        self._cache.forget(identity)
        return deleted.deleted_count == 1


class Rosters:
    """Rosters, by ``<course>/<assignment>``."""

    def __init__(self, collection: Collection) -> None:
        self._rosters = Documents(collection)
        self._cache = Cache(self._read)
        self._known: OrderedDict[str, tuple[str, Roster]] = OrderedDict()  # with revisions, by id

    async def ensure_indexes(self) -> None:
        await self._rosters.create_index("students.student", name="of_student")
        await self._rosters.create_index("students.members", name="of_member")

    async def get(self, course: str, assignment: str) -> Roster | None:
        """Return the roster that is stored now, or None."""
        return await self._read(f"{course}/{assignment}")

    async def recent(self, course: str, assignment: str) -> Roster | None:
        """Return a roster from a cache that is at most a moment old, or None."""
        return await self._cache.get(f"{course}/{assignment}")

    async def _read(self, identity: str) -> Roster | None:
        """Return a roster; it is read in full only if its revision is another one than at the last call."""
        head = await self._rosters.find_one({"_id": identity}, {"revision": 1})
        known = self._known.get(identity)
        if head and known and head.get("revision") == known[0]:
            self._known.move_to_end(identity)
            return known[1]
        self._known.pop(identity, None)
        if head and head.get("revision") is None:  # an earlier version stored it, and may replace it again
            await self._rosters.update_one(
                {"_id": identity, "revision": None}, {"$set": {"revision": token_hex(_REVISION)}}
            )
        document = await self._rosters.find_one({"_id": identity}) if head else None
        if document is None:
            return None
        roster = _roster(document)
        if revision := document.get("revision"):
            self._keep(identity, revision, roster)
        return roster

    def _keep(self, identity: str, revision: str, roster: Roster) -> None:
        self._known[identity] = revision, roster
        size = sum(len(each.students) for _, each in self._known.values())
        while size > MOST_KNOWN and len(self._known) > 1:
            _, (_, oldest) = self._known.popitem(last=False)
            size -= len(oldest.students)

    async def has_student(self, course: str, student: str) -> bool:
        """Return whether a student is in a roster of the course."""
        own = {"$or": [{"students.student": student}, {"students.members": student}]}
        query = {"_id": {"$regex": f"^{re.escape(course)}/"}, **own}
        return await self._rosters.find_one(query, {"_id": 1}) is not None

    async def courses_of(self, student: str, *, limit: int) -> list[str]:
        """Return the ids of courses that have a student in a roster, in order."""
        found = set()
        for key in ("students.student", "students.members"):  # the embedded store has an index for one of them only
            rosters = await self._rosters.find({key: {"$eq": student}}, {"_id": 1}, limit=MOST_ROSTERS)
            found |= {each["_id"].partition("/")[0] for each in rosters}
        return sorted(found)[:limit]

    async def put(self, course: str, assignment: str, roster: Roster) -> None:
        """Store a roster; it replaces an earlier roster completely.

        Raises:
            UnstorableError: MongoDB would refuse the roster; the earlier roster is unchanged.
        """
        identity = f"{course}/{assignment}"
        students = [entry.model_dump(mode="json") for entry in roster.students]
        document = {"students": students, "revision": token_hex(_REVISION)}
        check_storable(document)
        await self._rosters.replace_one({"_id": identity}, document, upsert=True)
        self._cache.forget(identity)


class Quotas:
    """The recent submissions of students, which quotas limit."""

    def __init__(self, collection: Collection) -> None:
        self._quotas = Documents(collection)

    async def take(self, key: str, submission: str, quota: Quota, now: datetime) -> datetime | None:
        """Count a submission against a quota, once. If the quota is used up, return when the next one is allowed.

        One conditional update decides, so that two concurrent submissions cannot both get the last place.
        """
        known = await self._quotas.find_one({"_id": key})
        times = known["times"] if known else []
        if any(entry["submission"] == submission for entry in times):
            return None
        since = now - timedelta(seconds=quota.seconds)
        oldest = f"times.{quota.submissions - 1}.at"
        entry = {"submission": submission, "at": now}
        try:
            await self._quotas.update_one(
                {"_id": key, "$or": [{oldest: {"$exists": False}}, {oldest: {"$lte": since}}]},
                {"$push": {"times": {"$each": [entry], "$position": 0, "$slice": quota.submissions}}},
                upsert=True,
            )
        except DuplicateKeyError:
            known = await self._quotas.find_one({"_id": key})
            at: datetime = known["times"][quota.submissions - 1]["at"] if known else now
            return at + timedelta(seconds=quota.seconds)
        return None


def _hook(document: Document) -> Hook | None:
    fields = {key: document.get(key) for key in HookConfig.model_fields if key in document}
    try:
        config = HookConfig.model_validate(fields)
        return Hook(document["course"], document["name"], config, is_older="env" not in document)
    except (KeyError, ValidationError) as error:
        log.warning("hook left out", hook=str(document["_id"]), problem=type(error).__name__)
        return None


def _roster(document: Document) -> Roster:
    return Roster(students=tuple(map(_entry, document["students"])))


def _entry(document: Document) -> RosterEntry:
    return RosterEntry.model_validate({key: document[key] for key in RosterEntry.model_fields if key in document})

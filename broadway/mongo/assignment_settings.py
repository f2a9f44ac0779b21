"""The collection ``assignment_settings``: all versions of assignments' settings. A stored version never changes."""

from datetime import datetime

from broadway.domain.assignment_settings import AssignmentSettings, SettingsVersion
from broadway.mongo.cache import Cache
from broadway.mongo.collection import Collection, Document, Documents, insert_each

_DIGITS = 9  # of a version in an id, so that ids are in the order of versions


class AssignmentSettingsStore:
    """Versions of settings, with the ids ``<course>/<assignment>/<version>``."""

    def __init__(self, collection: Collection) -> None:
        self._versions = Documents(collection)
        self._cache = Cache(self._read)

    async def current(self, course: str, assignment: str) -> SettingsVersion:
        """Return the latest version; version 0 has the defaults."""
        found = await self.latest(course, assignment, before=None, limit=1)
        return found[0] if found else SettingsVersion(AssignmentSettings())

    async def recent(self, course: str, assignment: str) -> SettingsVersion:
        """Return the latest version from a cache that is at most a moment old; version 0 has the defaults."""
        return await self._cache.get(f"{course}/{assignment}") or SettingsVersion(AssignmentSettings())

    async def _read(self, identity: str) -> SettingsVersion:
        course, _, assignment = identity.partition("/")
        return await self.current(course, assignment)

    async def get(self, course: str, assignment: str, version: int) -> SettingsVersion | None:
        found = await self._versions.find_one({"_id": _id(course, assignment, version)})
        return _version(found) if found else None

    async def latest(self, course: str, assignment: str, *, before: int | None, limit: int) -> list[SettingsVersion]:
        """Return versions, latest first; only those before ``before`` if it is given."""
        end = f"{course}/{assignment}0" if before is None else _id(course, assignment, before)  # "0" comes after "/"
        query = {"_id": {"$gte": f"{course}/{assignment}/", "$lt": end}}
        return [_version(each) for each in await self._versions.find(query, sort=[("_id", -1)], limit=limit)]

    async def add(self, course: str, assignment: str, version: SettingsVersion) -> bool:
        """Store a new version; return False if another one has its number."""
        document: Document = {
            "_id": _id(course, assignment, version.version),
            "settings": version.settings.model_dump(mode="json", exclude_unset=True),
            "at": version.at,
            "by": version.by,
        }
        is_new = (await insert_each(self._versions, [document]))[0]
        self._cache.forget(f"{course}/{assignment}")
        return is_new


def _id(course: str, assignment: str, version: int) -> str:
    return f"{course}/{assignment}/{version:0{_DIGITS}}"


def _version(document: Document) -> SettingsVersion:
    number = int(str(document["_id"]).rpartition("/")[2])
    at: datetime = document["at"]
    return SettingsVersion(AssignmentSettings.model_validate(document["settings"]), number, at, document.get("by", ""))

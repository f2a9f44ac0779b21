"""The collection ``service_secret``: what services of one deployment know, and nobody else."""

import contextlib
from secrets import token_bytes

from broadway.mongo.collection import Collection, Documents
from broadway.mongo.errors import DuplicateKeyError

_BYTES = 32


class Secrets:
    """Secrets by name, each made by whoever asks for it first."""

    def __init__(self, collection: Collection) -> None:
        self._secrets = Documents(collection)

    async def get(self, name: str) -> bytes:
        """A secret, the same for everybody who asks."""
        with contextlib.suppress(DuplicateKeyError):  # somebody else asked at the same moment
            await self._secrets.update_one({"_id": name}, {"$setOnInsert": {"value": token_bytes(_BYTES)}}, upsert=True)
        found = await self._secrets.find_one({"_id": name})
        assert found is not None  # noqa: S101 - it is there now
        return bytes(found["value"])

"""The collection ``service_secret``: secrets that only the services of a deployment share."""

import contextlib
from secrets import token_bytes

from broadway.mongo.collection import Collection, Documents
from broadway.mongo.errors import DuplicateKeyError
from broadway.ports import StoreError

_BYTES = 32


class Secrets:
    """Secrets by name. Each is created by the first process that reads it."""

    def __init__(self, collection: Collection) -> None:
        self._secrets = Documents(collection)

    async def get(self, name: str) -> bytes:
        """Return a secret, the same for every process; create it on first use.

        Raises:
            StoreError: Another program removes the secret at the same time.
        """
        with contextlib.suppress(DuplicateKeyError):  # another process created it at the same moment
            await self._secrets.update_one({"_id": name}, {"$setOnInsert": {"value": token_bytes(_BYTES)}}, upsert=True)
        found = await self._secrets.find_one({"_id": name})
        if found is None:
            raise StoreError(f"the secret {name} was removed from the store while it was read")
        return bytes(found["value"])

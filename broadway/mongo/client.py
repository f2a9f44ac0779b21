"""A MongoDB client that reads every document, and that can be cancelled while it waits for a server."""

import asyncio
from typing import Any

from bson.codec_options import DatetimeConversion
from pymongo import AsyncMongoClient

from broadway.mongo.collection import Document


class Client(AsyncMongoClient[Document]):
    """A MongoDB client that survives cancellations.

    In pymongo every operation first waits for a server. If that wait is interrupted at the wrong moment, as when
    several operations are cancelled together, it leaves a lock taken forever, and all later operations wait for the
    lock. Here the wait therefore continues without its caller, until the server selection timeout at most.

    Text that is not UTF-8 and times that Python does not have are replaced when they are read, since one such document
    would otherwise make every read of a list fail that contains it.
    """

    def __init__(self, dsn: str, **options: Any) -> None:
        super().__init__(
            dsn,
            tz_aware=True,
            unicode_decode_error_handler="replace",
            datetime_conversion=DatetimeConversion.DATETIME_CLAMP.name,
            **options,
        )

    async def _select_server(self, *args: Any, **kwargs: Any) -> Any:
        selection = asyncio.ensure_future(super()._select_server(*args, **kwargs))
        selection.add_done_callback(_retrieve)
        return await asyncio.shield(selection)


def _retrieve(selection: "asyncio.Future[Any]") -> None:
    """Retrieve an error whose caller may be gone, so that asyncio does not log it."""
    if not selection.cancelled():
        selection.exception()

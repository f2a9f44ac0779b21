"""A client that may be cancelled while it waits for a server."""

import asyncio
from typing import Any

from pymongo import AsyncMongoClient

from broadway.mongo.collection import Document


class Client(AsyncMongoClient[Document]):
    """A MongoDB client that survives cancellations.

    pymongo's wait for a server, which every operation begins with, does not: interrupted at the wrong moment, as when
    several operations give up together, it leaves a lock behind that nobody holds and everybody waits for. So it goes
    on without its caller, for no longer than a server is waited for.
    """

    async def _select_server(self, *args: Any, **kwargs: Any) -> Any:
        selection = asyncio.ensure_future(super()._select_server(*args, **kwargs))
        selection.add_done_callback(_retrieve)
        return await asyncio.shield(selection)


def _retrieve(selection: "asyncio.Future[Any]") -> None:
    """Take note of an error that nobody may be there for any more."""
    if not selection.cancelled():
        selection.exception()

"""Two sites in the session's store: one with data, and an empty one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from broadway.backup.manifest import Manifest
from broadway.backup.restore import Restored, checked, restore
from broadway.backup.take import take
from broadway.mongo.raw_documents import RawDocuments

VERSION = "1.2.3"
Document = dict[str, Any]


@dataclass(frozen=True)
class Databases:
    """A site, with its databases for tests to write and read."""

    site: RawDocuments
    primary: AsyncDatabase[Document]
    logs: AsyncDatabase[Document]

    async def documents(self) -> dict[str, list[Document]]:
        """Return all documents by place, without records of migrations."""
        found = {}
        for role, database in (("primary", self.primary), ("logs", self.logs)):
            for name in await database.list_collection_names():
                if name != "migration":
                    documents = await database[name].find({}).to_list()
                    found[f"{role}/{name}"] = sorted(documents, key=lambda each: str(each["_id"]))
        return {place: documents for place, documents in found.items() if documents}


@asynccontextmanager
async def databases(dsn: str) -> AsyncIterator[Databases]:
    client: AsyncMongoClient[Document] = AsyncMongoClient(dsn, tz_aware=True)
    name = f"b{token_hex(4)}"
    async with client, RawDocuments.connect(dsn, primary=f"{name}_ag", logs=f"{name}_logs") as site:
        yield Databases(site, client[f"{name}_ag"], client[f"{name}_logs"])
        await client.drop_database(f"{name}_ag")
        await client.drop_database(f"{name}_logs")


@pytest.fixture
async def source(mongodb_dsn: str) -> AsyncIterator[Databases]:
    async with databases(mongodb_dsn) as opened:
        yield opened


@pytest.fixture
async def target(mongodb_dsn: str) -> AsyncIterator[Databases]:
    async with databases(mongodb_dsn) as opened:
        yield opened


async def made(source: Databases, directory: Path) -> Manifest:
    """Make a backup, and return its manifest."""
    *_, manifest = [each async for each in take(source.site, directory, version=VERSION)]
    assert isinstance(manifest, Manifest)
    return manifest


async def restored(target: Databases, directory: Path) -> list[Restored]:
    manifest = await checked(directory)
    return [each async for each in restore(target.site, directory, manifest, by="a test")]

"""Recordings and their files."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bson import json_util
from pymongo import AsyncMongoClient

Entry = dict[str, Any]

DATA = Path(__file__).parent / "data"
PARTS = ("messages", "documents", "answers")
TYPED = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True)


@dataclass(frozen=True)
class Recording:
    """The exact messages, documents and answers of one run of the scenario.

    ``about`` names the version and the host; ``documents`` have the types of BSON, as canonical extended JSON.
    This version must be exactly like the latest recording; compared with earlier ones, it may have more.
    """

    about: Entry
    messages: list[Entry]
    documents: list[Entry]
    answers: list[Entry] = field(default_factory=list)
    openapi: Entry = field(default_factory=dict)
    is_latest: bool = False

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a recording."""
        whole = {name: json.loads((directory / f"{name}.json").read_text()) for name in ("about", "openapi")}
        parts: dict[str, Any] = {part: _lines(directory / f"{part}.jsonl") for part in PARTS}
        return cls(**whole, **parts, is_latest=directory == directories()[-1])

    def save(self, directory: Path) -> None:
        """Write a new recording; one that exists is never overwritten."""
        directory.mkdir(parents=True)
        for part in PARTS:
            lines = (compact(entry) + "\n" for entry in getattr(self, part))
            (directory / f"{part}.jsonl").write_text("".join(lines))
        (directory / "about.json").write_text(compact(self.about) + "\n")
        (directory / "openapi.json").write_text(compact(self.openapi).replace('},"', '},\n"') + "\n")


def compact(value: Any) -> str:
    """Return JSON without spaces, in the order of its keys."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_kept(then: Any, now: Any) -> bool:
    """Return whether a JSON value contains an earlier one; its objects may have more keys."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(key in now and is_kept(each, now[key]) for key, each in then.items())
    if isinstance(then, list):
        return isinstance(now, list) and len(then) == len(now) and all(map(is_kept, then, now))
    return type(then) is type(now) and then == now


def directories() -> list[Path]:
    """Return the kept recordings, oldest first."""
    return sorted(directory for directory in DATA.iterdir() if directory.is_dir())


def _lines(file: Path) -> list[Entry]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def stored(dsn: str, databases: Mapping[str, str]) -> list[Entry]:
    """Return every document of every collection. ``databases`` maps roles, such as ``logs``, to names."""
    entries: list[Entry] = []
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(dsn, tz_aware=True)
    async with client:
        for holds, name in databases.items():
            for collection in sorted(await client[name].list_collection_names()):
                found = await client[name][collection].find().to_list()
                entries += [_entry(holds, collection, each) for each in sorted(found, key=lambda d: str(d["_id"]))]
    return entries


def _entry(holds: str, collection: str, document: Entry) -> Entry:
    typed = json.loads(json_util.dumps(document, json_options=TYPED))
    return {"database": holds, "collection": collection, "document": typed}


async def restore(documents: Iterable[Entry], dsn: str, databases: Mapping[str, str]) -> None:
    """Insert recorded documents into empty databases, exactly as they were."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(dsn, tz_aware=True)
    async with client:
        held: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in documents:
            held[databases[entry["database"]], entry["collection"]].append(typed(entry["document"]))
        for (database, collection), found in held.items():
            await client[database][collection].insert_many(found)


def typed(document: Entry) -> Entry:
    """Return a recorded document with its original types."""
    read: Entry = json_util.loads(json.dumps(document), json_options=TYPED)
    return read


def of(recording: Recording, collection: str) -> list[Entry]:
    """Return the documents of a collection with their original types."""
    return [typed(entry["document"]) for entry in recording.documents if entry["collection"] == collection]

"""Each collection of the store has a decision on its retention, and is described."""

import re
from pathlib import Path
from typing import Any, cast

from pymongo import AsyncMongoClient

from broadway.mongo.client import Answers
from broadway.mongo.store import Store

DOCUMENTS = Path(__file__).parents[2] / "docs"


class Named:
    """A database that remembers the names of its collections."""

    def __init__(self, names: set[str]) -> None:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(connect=False)
        self._database, self._names = client["test"], names

    def __getitem__(self, name: str) -> Any:
        self._names.add(name)
        return self._database[name]


def collections() -> set[str]:
    names: set[str] = set()
    store = Store.of(cast(Any, Named(names)), cast(Any, Named(names)), Answers())
    store.shared()
    return names


def section(document: str, heading: str) -> str:
    return (DOCUMENTS / document).read_text().partition(f"## {heading}")[2].partition("\n## ")[0]


async def test_every_collection_has_a_decision_on_its_retention() -> None:
    decided = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", section("retention.md", "All collections"), re.MULTILINE)

    assert decided == sorted(collections()), (
        "decide in docs/retention.md what removes the documents of a new collection"
    )


async def test_every_collection_is_described() -> None:
    rows = re.findall(r"^\| (`(?:AG|logs)\..+?) \|", section("architecture.md", "Stored data"), re.MULTILINE)
    described = [name for row in rows for name in re.findall(r"`(?:AG|logs)\.(\w+)`", row)]

    assert sorted(described) == sorted(collections()), (
        "describe the documents of a new collection in docs/architecture.md"
    )

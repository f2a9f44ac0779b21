"""Each collection of the store has a decision on its retention."""

import re
from pathlib import Path
from typing import Any, cast

from pymongo import AsyncMongoClient

from broadway.mongo.client import Answers
from broadway.mongo.store import Store

DOCUMENT = Path(__file__).parents[2] / "docs" / "retention.md"


class Named:
    """A database that remembers the names of its collections."""

    def __init__(self, names: set[str]) -> None:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(connect=False)
        self._database, self._names = client["test"], names

    def __getitem__(self, name: str) -> Any:
        self._names.add(name)
        return self._database[name]


async def test_every_collection_has_a_decision_on_its_retention() -> None:
    names: set[str] = set()
    store = Store.of(cast(Any, Named(names)), cast(Any, Named(names)), Answers())
    store.shared()

    section = DOCUMENT.read_text().partition("## All collections")[2].partition("\n## ")[0]
    decided = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", section, re.MULTILINE)

    assert decided == sorted(names), "decide in docs/retention.md what removes the documents of a new collection"

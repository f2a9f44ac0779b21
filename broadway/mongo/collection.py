"""What the collections share."""

from typing import Any

from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection

Document = dict[str, Any]
Collection = AsyncCollection[Document]


def object_id(text: str) -> ObjectId | None:
    """The id behind its text; None for a text that is no id, which nothing can have."""
    return ObjectId(text) if ObjectId.is_valid(text) and text == text.lower() else None


def object_ids(texts: list[str]) -> list[ObjectId]:
    return [identity for text in texts if (identity := object_id(text)) is not None]

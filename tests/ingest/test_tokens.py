"""Courses' tokens: ingest loads them into the store, which keeps only hashes."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from harness import Client, token_of
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from structlog.testing import capture_logs

from broadway.domain.course import Course
from broadway.ingest.serve import load_courses
from broadway.mongo.courses import Courses
from broadway.mongo.store import Store
from broadway.service import StartError
from broadway.settings.programs import IngestSettings

Document = dict[str, Any]
Restart = Callable[[object], Awaitable[None]]


@pytest.fixture
def settings(ingest_settings: IngestSettings) -> IngestSettings:
    """Settings with the test's own databases, because a course config replaces every course."""
    name = f"t{token_hex(4)}"
    mongodb = ingest_settings.mongodb.model_copy(update={"primary": f"{name}_ag", "logs": f"{name}_logs"})
    return ingest_settings.model_copy(update={"mongodb": mongodb})


@pytest.fixture
async def own_store(settings: IngestSettings) -> AsyncIterator[Store]:
    mongodb = settings.mongodb
    async with Store.connect(mongodb.dsn, primary=mongodb.primary, logs=mongodb.logs) as store:
        yield store


@pytest.fixture
async def collection(
    settings: IngestSettings, database: AsyncDatabase[Document], own_store: Store
) -> AsyncCollection[Document]:
    assert await own_store.courses.all() == []
    return database.client[settings.mongodb.primary]["course"]


@pytest.fixture
def restart(settings: IngestSettings, own_store: Store, tmp_path: Path) -> Restart:
    """Return a function that loads courses as a starting ingest service does; None means no course config."""

    async def restart(config: object) -> None:
        path = tmp_path / "courses.json"
        path.write_text(json.dumps(config))
        given = settings.model_copy(update={"course_config": None if config is None else path})
        await load_courses(given, store=own_store)

    return restart


async def admits(store: Store, course_id: str, token: str, *, query: bool = False) -> bool:
    course = await store.courses.get(course_id)
    return course is not None and course.admits(token, query=query)


async def stored_tokens(collection: AsyncCollection[Document]) -> dict[str, list[str]]:
    """Return the stored tokens of each course."""
    return {d["_id"]: d["tokens"] + d.get("query_tokens", []) for d in await collection.find().to_list()}


async def test_the_course_config_is_stored_with_hashes(
    restart: Restart, own_store: Store, collection: AsyncCollection[Document]
) -> None:
    with capture_logs() as logs:
        await restart({"cs1": {"tokens": ["staff", "shared"], "query_tokens": ["look"]}, "cs2": {"tokens": ["shared"]}})

    stored = await stored_tokens(collection)
    assert {course: len(tokens) for course, tokens in stored.items()} == {"cs1": 3, "cs2": 1}
    assert len({token for tokens in stored.values() for token in tokens}) == 4
    assert all(token.startswith("sha256$") for tokens in stored.values() for token in tokens)
    assert await admits(own_store, "cs1", "staff")
    assert await admits(own_store, "cs1", "shared")
    assert await admits(own_store, "cs2", "shared")
    assert await admits(own_store, "cs1", "look", query=True)
    assert not await admits(own_store, "cs1", "look")
    assert not await admits(own_store, "cs2", "staff")
    assert not await admits(own_store, "cs2", stored["cs2"][0])
    assert "shared" not in str(logs)


async def test_a_course_config_may_hold_hashes(
    restart: Restart, own_store: Store, collection: AsyncCollection[Document]
) -> None:
    salt = token_hex(16)
    ready_made = f"sha256${salt}${hashlib.sha256((salt + 'staff').encode()).hexdigest()}"

    await restart({"cs1": {"tokens": [ready_made, "plain"]}})

    assert (await stored_tokens(collection))["cs1"][0] == ready_made
    assert await admits(own_store, "cs1", "staff")
    assert await admits(own_store, "cs1", "plain")
    assert not await admits(own_store, "cs1", ready_made)


@pytest.mark.parametrize(
    "config",
    [
        [],
        {"cs1": {"tokens": []}, "cs2": {}},
        {"cs1": {"tokens": "secret"}},
        {"cs1": {"tokens": ["secret", None]}},
        {"cs1": {"tokens": [], "query_tokens": {"secret": 1}}},
    ],
)
async def test_a_wrong_course_config_is_refused_and_changes_nothing(
    restart: Restart, collection: AsyncCollection[Document], config: object
) -> None:
    await collection.insert_one({"_id": "cs1", "tokens": ["plain"], "query_tokens": []})

    with capture_logs() as logs, pytest.raises(StartError, match=r"courses\.json: ") as refusal:
        await restart(config)

    assert await stored_tokens(collection) == {"cs1": ["plain"]}
    assert "secret" not in str(refusal.value) + str(logs)


async def test_plain_tokens_in_the_store_are_hashed_at_the_next_start(
    restart: Restart, own_store: Store, collection: AsyncCollection[Document]
) -> None:
    more = {"weight": 2.0, "title": "of another program"}
    await collection.insert_many(
        [
            {"_id": "cs1", "tokens": ["staff", "shared"], "query_tokens": ["look"]},
            {"_id": "cs2", "tokens": ["shared"], **more},
            {"_id": "cs3", "tokens": [], "query_tokens": []},
        ]
    )

    with capture_logs() as logs:
        await restart(None)

    stored = await stored_tokens(collection)
    assert all(token.startswith("sha256$") for tokens in stored.values() for token in tokens)
    assert await admits(own_store, "cs1", "staff")
    assert await admits(own_store, "cs1", "look", query=True)
    assert await admits(own_store, "cs2", "shared")
    assert await collection.find_one({"_id": "cs2"}) == {"_id": "cs2", "tokens": stored["cs2"], **more}
    assert [line["courses"] for line in logs if line["event"] == "plain tokens hashed"] == [["cs1", "cs2"]]
    assert "shared" not in str(logs)

    await restart(None)

    assert await stored_tokens(collection) == stored


async def test_only_plain_tokens_are_hashed(own_store: Store, collection: AsyncCollection[Document]) -> None:
    await collection.insert_one({"_id": "cs1", "tokens": ["staff"], "query_tokens": ["look"]})
    await own_store.courses.hash_tokens()
    (before,) = (await collection.find_one({"_id": "cs1"}) or {})["query_tokens"]
    await collection.update_one({"_id": "cs1"}, {"$push": {"tokens": "added"}})
    first = (await stored_tokens(collection))["cs1"][0]

    assert await own_store.courses.hash_tokens() == ["cs1"]

    tokens = (await stored_tokens(collection))["cs1"]
    assert (tokens[0], tokens[2]) == (first, before)
    assert await admits(own_store, "cs1", "added")


class Interrupted:
    """A collection that another writer changes right before each update."""

    def __init__(self, collection: AsyncCollection[Document], change: Document) -> None:
        self._collection = collection
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    async def update_one(self, query: Document, update: Document, **options: Any) -> Any:
        await self._collection.update_one({"_id": query["_id"]}, self._change)
        return await self._collection.update_one(query, update, **options)


async def test_a_concurrent_change_is_kept(own_store: Store, collection: AsyncCollection[Document]) -> None:
    await collection.insert_one({"_id": "cs1", "tokens": ["old"], "query_tokens": []})
    interrupted: Any = Interrupted(collection, {"$set": {"tokens": ["new"]}})

    assert await Courses(interrupted).hash_tokens() == []

    assert await stored_tokens(collection) == {"cs1": ["new"]}
    assert await own_store.courses.hash_tokens() == ["cs1"]
    assert await admits(own_store, "cs1", "new")
    assert not await admits(own_store, "cs1", "old")


async def test_a_concurrently_removed_course_is_not_restored(
    own_store: Store, collection: AsyncCollection[Document]
) -> None:
    class Removed(Interrupted):
        async def update_one(self, query: Document, update: Document, **options: Any) -> Any:
            await collection.delete_one({"_id": query["_id"]})
            return await collection.update_one(query, update, **options)

    await collection.insert_one({"_id": "cs1", "tokens": ["old"]})
    removed: Any = Removed(collection, {})

    assert await Courses(removed).hash_tokens() == []

    assert await own_store.courses.all() == []


@pytest.mark.parametrize("tokens", ["secret", None, ["secret", 1], {"secret": 1}])
async def test_an_invalid_stored_course_is_unknown_and_its_secrets_are_not_logged(
    client: Client, database: AsyncDatabase[Document], store: Store, tokens: object
) -> None:
    name = f"cs{token_hex(4)}"
    await database["course"].insert_one({"_id": name, "tokens": tokens})

    with capture_logs() as logs:
        await store.courses.hash_tokens()
        answer = await client.get(f"queue/{name}/length", token="secret")

    await database["course"].delete_one({"_id": name})
    assert (answer.status_code, answer.json()["data"]) == (401, {"message": "course not found"})
    assert [line["course"] for line in logs if line["event"] == "course left out"] == [name]
    assert "secret" not in str(logs)


async def test_tokens_are_valid_before_and_after_they_are_hashed(
    client: Client, store: Store, course: str, other_course: str
) -> None:
    async def answers() -> list[int]:
        tokens = (token_of(course), token_of(course).replace("staff", "second"), token_of(other_course))
        return [(await client.get(f"queue/{course}/length", token=token)).status_code for token in tokens]

    assert await answers() == [200, 200, 401]

    assert course in await store.courses.hash_tokens()

    assert await answers() == [200, 200, 401]


async def test_a_course_config_leaves_added_courses_alone_unless_it_names_them(
    restart: Restart, own_store: Store
) -> None:
    assert await own_store.courses.add(Course(id="added", tokens=(), is_added=True))
    assert await own_store.courses.add(Course(id="named", tokens=(), is_added=True))
    await restart({"named": {"tokens": ["t"], "is_added": True}, "configured": {"tokens": ["t"]}})

    assert sorted(course.id for course in await own_store.courses.all()) == ["added", "configured", "named"]
    await restart({})
    assert [course.id for course in await own_store.courses.all()] == ["added"]
    assert not await own_store.courses.add(Course(id="added", tokens=("t",), is_added=True))
    assert (await own_store.courses.all())[0].tokens == ()

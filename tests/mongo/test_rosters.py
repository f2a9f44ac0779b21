"""The rosters' cache: a roster is read in full only after a change."""

from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.roster import Roster, RosterEntry
from broadway.mongo import hooks
from broadway.mongo.hooks import Rosters
from broadway.mongo.store import Store


@pytest.fixture
def rosters(database: AsyncDatabase[dict[str, Any]]) -> Rosters:
    """The rosters as another process sees them."""
    return Rosters(database["roster"])


def of(*students: str) -> Roster:
    return Roster(students=tuple(RosterEntry(student=student) for student in students))


async def read_again(rosters: Rosters, course: str) -> Roster | None:
    """Read a roster whose cached form has expired."""
    rosters._cache.forget(f"{course}/mp1")  # noqa: SLF001 - instead of waiting for a second
    return await rosters.recent(course, "mp1")


async def test_an_unchanged_roster_is_not_built_again(store: Store, rosters: Rosters, course: str) -> None:
    await store.rosters.put(course, "mp1", of("ada"))
    first = await rosters.recent(course, "mp1")
    assert first == of("ada")
    assert await read_again(rosters, course) is first

    await store.rosters.put(course, "mp1", of("ada", "grace"))
    assert await read_again(rosters, course) == of("ada", "grace")


async def test_the_present_roster_is_built_again_only_after_a_change(
    store: Store, rosters: Rosters, course: str
) -> None:
    await store.rosters.put(course, "mp1", of("ada"))
    first = await rosters.get(course, "mp1")
    assert first == of("ada")
    assert await rosters.get(course, "mp1") is first

    await store.rosters.put(course, "mp1", of("grace"))
    assert await rosters.get(course, "mp1") == of("grace")


async def test_few_rosters_are_remembered(
    store: Store, rosters: Rosters, course: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "MOST_KNOWN", 3)
    for name in ("mp1", "mp2"):
        await store.rosters.put(course, name, of("ada", "grace"))
    first, second = await rosters.get(course, "mp1"), await rosters.get(course, "mp2")

    assert await rosters.get(course, "mp2") is second
    assert await rosters.get(course, "mp1") is not first


async def test_a_roster_of_an_earlier_version_is_seen_each_time_it_is_replaced(
    database: AsyncDatabase[dict[str, Any]], rosters: Rosters, course: str
) -> None:
    assert await rosters.recent(course, "mp1") is None
    for students in (["ada"], ["ada", "grace"]):
        stored = {"students": [{"student": student, "env": {}} for student in students]}
        await database["roster"].replace_one({"_id": f"{course}/mp1"}, stored, upsert=True)
        found = await read_again(rosters, course)
        assert found == of(*students)
        assert await read_again(rosters, course) is found

"""The corpus of configs that no course may register: each is refused, with what is wrong, and nothing is stored."""

from typing import Any
from urllib.parse import quote

import pytest
from harness import Client, token_of
from hostile.configs import RefusedConfig, load
from pymongo.asynchronous.database import AsyncDatabase

CASES = load()
DECIDED_LATE = {"grading_run", "grading_job", "hook_delivery", "hook_quota"}


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_refused_and_nothing_is_stored(
    case: RefusedConfig, client: Client, course: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    before = await _stored(database)
    path = "/".join(quote(name, safe="") for name in (case.course or course, case.assignment))
    answer = await client.post(f"grading_config/{path}", case.config, token=token_of(course))

    assert answer.status_code == case.status, f"{case.about}: {answer.text[:500]}"
    assert case.named in answer.text
    assert len(answer.text) < 2000, "what was sent is not sent back"
    assert await _stored(database) == before


async def test_the_same_config_without_what_is_asked_for_is_taken(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[{"image": "course/run:1", "entrypoint": ["run"]}])


async def _stored(database: AsyncDatabase[dict[str, Any]]) -> dict[str, int]:
    """Documents by collection, but for what the pushes of other tests may still become."""
    names = {*await database.list_collection_names()} - DECIDED_LATE
    return {name: await database[name].count_documents({}) for name in names}

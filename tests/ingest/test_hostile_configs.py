"""The corpus of hostile configs: each is refused with its mistake named, and nothing is stored."""

from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from harness import Client, token_of
from hostile.configs import RefusedConfig, load
from pymongo.asynchronous.database import AsyncDatabase

CASES = load()
DECIDED_LATE = {"grading_run", "grading_job", "hook_delivery", "hook_quota"}


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_hostile_config_is_refused(case: RefusedConfig, client: Client, course_of_module: str) -> None:
    answer = await _register(case, client, course_of_module)

    assert answer.status_code == case.status, f"{case.about}: {answer.text[:500]}"
    assert case.named in answer.text
    assert len(answer.text) < 2000, "what was sent is not sent back"


async def test_of_hostile_configs_nothing_is_stored(
    client: Client, course: str, database: AsyncDatabase[dict[str, Any]]
) -> None:
    before = await _stored(database)

    answers = [await _register(case, client, course) for case in CASES]

    assert await _stored(database) == before
    assert [answer.status_code for answer in answers] == [case.status for case in CASES]


async def test_a_harmless_config_is_accepted(client: Client, course: str) -> None:
    await client.register(course, "mp1", students=[{"image": "course/run:1", "entrypoint": ["run"]}])


async def _register(case: RefusedConfig, client: Client, course: str) -> httpx2.Response:
    path = "/".join(quote(name, safe="") for name in (case.course or course, case.assignment))
    return await client.post(f"grading_config/{path}", case.config, token=token_of(course))


async def _stored(database: AsyncDatabase[dict[str, Any]]) -> dict[str, int]:
    """Count the documents by collection, except in those that pushes of other tests may still change."""
    names = {*await database.list_collection_names()} - DECIDED_LATE
    return {name: await database[name].count_documents({}) for name in names}

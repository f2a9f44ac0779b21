"""Fixtures: a course with endpoints for callbacks, and a receiver."""

from collections.abc import AsyncIterator

import pytest
from callback_world import World
from receivers import Receiver
from stored import course, database, shared_place, store

from broadway.mongo.store import Store

__all__ = ["course", "database", "shared_place", "store"]


@pytest.fixture
async def world(store: Store, course: str) -> AsyncIterator[World]:
    made = World(store, course)
    yield made
    for endpoint in await store.callbacks.endpoints.of_course(course):
        await store.callbacks.endpoints.delete(endpoint)
        await store.callbacks.deliveries.delete_of(endpoint.id)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver.open() as opened:
        yield opened

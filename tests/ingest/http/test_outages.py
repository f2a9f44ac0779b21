"""Reads end with their client or the store; changes go on."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from harness import until
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from broadway.ingest.http.outages import StoreOutages
from broadway.runtime.health import Health


class Handling:
    """A handler that waits, and records its end."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.go = asyncio.Event()

    async def run(self) -> Response:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        self.ends.append("done")
        return Response("answer")


class StoreCheck:
    is_away = False

    async def ask(self) -> None:
        if self.is_away:
            raise OSError("gone")


def never() -> Coroutine[Any, Any, None]:
    async def wait() -> None:
        await asyncio.Event().wait()

    return wait()


@pytest.fixture
def store() -> StoreCheck:
    return StoreCheck()


@pytest.fixture
def health(store: StoreCheck) -> Health:
    return Health({"store": store.ask})


@pytest.fixture
def handling() -> Handling:
    return Handling()


async def test_a_read_whose_client_is_gone_is_cancelled(health: Health, handling: Handling) -> None:
    left = asyncio.Event()

    async def gone() -> None:
        await left.wait()

    async with StoreOutages(health) as outages:
        reading = asyncio.create_task(outages.read(handling.run(), gone()))
        await asyncio.sleep(0)
        left.set()
        with pytest.raises(ClientDisconnect):
            await reading
        await until(lambda: handling.ends == ["cancelled"])


async def test_a_read_is_cancelled_when_the_store_fails(health: Health, store: StoreCheck, handling: Handling) -> None:
    async with StoreOutages(health) as outages:
        reading = asyncio.create_task(outages.read(handling.run(), never()))
        await asyncio.sleep(0)
        store.is_away = True
        await health.check()
        assert await reading is None
        await until(lambda: handling.ends == ["cancelled"])


async def test_a_change_goes_on_when_the_store_fails(health: Health, store: StoreCheck, handling: Handling) -> None:
    async with StoreOutages(health) as outages:
        changing = asyncio.create_task(outages.change(handling.run()))
        await asyncio.sleep(0)
        store.is_away = True
        await health.check()
        assert await changing is None
        handling.go.set()
        await until(lambda: handling.ends == ["done"])


async def test_an_answer_ends_the_wait_for_the_client(health: Health, handling: Handling) -> None:
    handling.go.set()
    async with StoreOutages(health) as outages:
        for answer in (await outages.read(handling.run(), never()), await outages.change(handling.run())):
            assert answer is not None
            assert answer.body == b"answer"

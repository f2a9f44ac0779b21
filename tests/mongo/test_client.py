"""The store's client, when operations are cancelled while they wait for a server."""

import asyncio
from typing import Any

import pytest
from harness import free_port
from pymongo.errors import ServerSelectionTimeoutError

from broadway.mongo.client import Client

WITHIN = 0.4  # seconds to wait for a server
MANY = 30


async def test_a_client_works_after_operations_are_cancelled_together() -> None:
    async with Client(f"mongodb://127.0.0.1:{free_port()}", serverSelectionTimeoutMS=int(WITHIN * 1000)) as client:
        for pause in (0.0, 0.01, WITHIN / 2):
            waiting = [asyncio.create_task(client.admin.command("ping")) for _ in range(MANY)]
            await asyncio.sleep(pause)
            for _ in range(2):  # pymongo survives a single cancellation in most cases
                for each in waiting:
                    each.cancel()
                await asyncio.sleep(0)
            ended: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(each) for each in ended} == {asyncio.CancelledError}

        with pytest.raises(ServerSelectionTimeoutError):
            async with asyncio.timeout(20 * WITHIN):
                await client.admin.command("ping")

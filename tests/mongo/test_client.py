"""The store's client: operations that are cancelled while they wait for a server, and documents of other programs."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import decode
from harness import PATIENCE, free_port
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
            async with asyncio.timeout(PATIENCE):
                await client.admin.command("ping")


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (b"\x02text\0\x04\0\0\0a\xff\xfe\0", {"text": "a\ufffd\ufffd"}),
        (b"\x09time\0" + (2**62).to_bytes(8, "little"), {"time": datetime.max.replace(microsecond=999000, tzinfo=UTC)}),
    ],
    ids=["text", "time"],
)
def test_a_document_that_another_program_stored_can_be_decoded(stored: bytes, read: dict[str, Any]) -> None:
    document = (len(stored) + 5).to_bytes(4, "little") + stored + b"\0"
    assert decode(document, Client("mongodb://127.0.0.1", connect=False).codec_options) == read

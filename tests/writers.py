"""A grader that runs a job of a world, and publishes the lines that a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

from graded import World
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.abilities import LIVE_LOGS
from broadway.domain.access import SecretPrefix, new_secret
from broadway.messages.http import IDENTITY_HEADER
from broadway.messages.live_logs import LogChunk
from broadway.messages.topology import LOGS, log_key
from broadway.runtime.cancellation import end

Database = AsyncDatabase[dict[str, Any]]


class Writer:
    """A grader that runs a job, and publishes what a test says."""

    def __init__(self, world: World, name: str, execution: dict[str, Any]) -> None:
        self.world, self.name, self.execution = world, name, execution

    @classmethod
    async def that_runs(cls, world: World, student: str, database: Database) -> "Writer":
        name = f"g-{token_hex(4)}"
        headers = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: new_secret(SecretPrefix.GRADER)}
        joined = await world.client.http.post(f"/api/v2/graders/{name}", json={"hostname": "h"}, headers=headers)
        assert joined.status_code == 200, joined.text
        await database["worker_node"].update_one({"_id": name}, {"$set": {"abilities": [LIVE_LOGS]}})
        return cls(world, name, await world.start(student, grader=name))

    @contextlib.asynccontextmanager
    async def writes(self, *chunks: tuple[int, int, int, list[str]]) -> AsyncIterator[None]:
        """Publish chunks again and again: as stage, line and offset, and lines."""

        async def publish() -> None:
            while True:
                for index, (of_stage, line, offset, lines) in enumerate(chunks):
                    text = "".join(f"2026-11-22T19:31:32.6Z {each}\n" for each in lines)
                    fields = {"stage": of_stage, "line": line, "offset": offset, "streams": [(1, len(lines))]}
                    chunk = LogChunk(**self.execution, **fields, text=text, begins=index == 0)
                    await self.world.opened.rabbit.send(LOGS, log_key(self.name, chunk.job_id), chunk)
                await asyncio.sleep(0.1)

        publishing = asyncio.create_task(publish())
        try:
            yield
        finally:
            await end(publishing)

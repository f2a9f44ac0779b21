"""A followed log when ingest or the grader is killed in mid-stream: each line once, or a remark in its place."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from faults.servers import Servers
from faults.world import COURSES, World
from harness import stage, token_of, until

from broadway.client import Client
from broadway.clients.live_logs import Shown

COURSE = COURSES[0]
LINES = 300
ALL = [f"line {number}" for number in range(1, LINES + 1)]


@pytest.fixture(scope="module")
async def world(shared: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory: Path = tmp_path_factory.mktemp("world")
    async with World.open(directory, shared=shared, graders=1) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("talk", str(LINES))]})
        yield world


@dataclass
class Followed:
    """A log that a thread follows."""

    server: str
    job: str
    shown: list[Shown] = field(default_factory=list)

    def follow(self) -> None:
        with Client.connect(self.server, course=COURSE, token=token_of(COURSE)) as client:
            self.shown.extend(client.follow_log(self.job))

    @property
    def told(self) -> list[str]:
        return [text for each in self.shown for text in (*each.lines, *([f"[{each.remark}]"] if each.remark else []))]

    def has(self, text: str) -> bool:
        return text in self.told


async def started(world: World, key: str) -> tuple[Followed, asyncio.Future[None]]:
    run = await world.submit(COURSE, "mp1", 1, key=key)
    job = (await world.client.jobs(COURSE, run))[0]["id"]
    followed = Followed(str(world.client.http.base_url), job)
    return followed, asyncio.ensure_future(asyncio.to_thread(followed.follow))


async def test_ingest_is_killed_in_mid_stream(world: World) -> None:
    followed, following = await started(world, "ingest")
    await until(lambda: followed.has("line 50"))
    world.roles["ingest-1"].send(signal.SIGKILL)
    await following

    assert [text for text in followed.told if text.startswith("line")] == ALL
    assert not [text for text in followed.told if "missing" in text]
    assert followed.shown[-1].outcome == "succeeded"


async def test_the_grader_is_killed_in_mid_stream(world: World) -> None:
    followed, following = await started(world, "grader")
    await until(lambda: followed.has("line 50"))
    world.roles["grader-1"].send(signal.SIGKILL)
    await following

    begins = followed.told.index("[attempt 2 begins]")
    first = [text for text in followed.told[:begins] if text.startswith("line")]
    assert first == ALL[: len(first)]
    assert [text for text in followed.told[begins:] if text.startswith("line")] == ALL
    assert followed.shown[-1].outcome == "succeeded"

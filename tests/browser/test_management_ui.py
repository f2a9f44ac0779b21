"""Queues, consumers, connections and messages explain themselves to operators in the management UI of RabbitMQ.

With ``BROADWAY_PICTURES`` these tests take the pictures of docs/operators.md.
"""

import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import pytest
from browser.conftest import PICTURES
from faults.world import World
from harness import PATIENCE, stage, until
from playwright.async_api import Browser, Locator, Page

from broadway.messages.topology import JOBS

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

HOSTS, SLOTS = 2, 4
LARGE, SMALL = "cs241", "cs101"
ROSTER, SINGLES, FEW = 200, 5, 3  # students of each of two runs; runs of one student of each course
COPIES = "copies"  # of the messages of a course's queue
WIDTH = 1400


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Two courses with work for all slots and a backlog, and a queue with copies of the large course's messages."""
    async with World.open(tmp_path, graders=HOSTS, slots=SLOTS) as world:
        for course in (LARGE, SMALL):
            await world.register(course, "mp1", {"student_pipeline": [stage("sleep", "3600", timeout=7200)]})
        async with await aio_pika.connect(world.rabbit.url) as connection:
            channel = await connection.channel()
            copies = await channel.declare_queue(COPIES, durable=True, arguments={"x-max-length": 10})
            await copies.bind(JOBS.name, f"course.{LARGE}.bulk")
        for number in range(2):
            await world.submit(LARGE, "mp1", ROSTER, key=f"roster-{number}")
        for course, runs in ((LARGE, SINGLES), (SMALL, FEW)):
            for number in range(runs):
                await world.submit(course, "mp1", 1, key=f"{course}-{number}")
        yield world


@pytest.fixture
async def page(world: World, browser: Browser) -> AsyncIterator[Page]:
    """The management UI, signed in."""
    context = await browser.new_context(viewport={"width": WIDTH, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    page = await context.new_page()
    username, password = world.rabbit.login
    await page.goto(world.rabbit.management_url)
    await page.fill("input[name=username]", username)
    await page.fill("input[name=password]", password)
    await page.click("input[type=submit]")
    await page.get_by_role("link", name="Queues", exact=True).wait_for()
    yield page
    await context.close()


async def picture(place: Locator, name: str) -> None:
    """Take a picture for the documents, if they are to be made."""
    if directory := os.environ.get(PICTURES):
        await place.screenshot(path=Path(directory) / f"{name}.png")


async def rows(page: Page) -> dict[str, list[str]]:
    """Return the cells of the first table, by the text of their row's first cell."""
    found = await page.locator("table.list").first.locator("tbody tr").all()
    cells = [[" ".join(text.split()) for text in await row.locator("td").all_inner_texts()] for row in found]
    return {first: rest for first, *rest in filter(None, cells)}


async def test_the_queues_show_where_work_waits(world: World, page: Page) -> None:
    expected = {  # ready, unacked, and their sum
        f"broadway.course.{LARGE}.bulk": ["0", "8", "8"],  # of fifty jobs each
        f"broadway.course.{LARGE}.interactive": ["0", f"{SINGLES}", f"{SINGLES}"],
        f"broadway.course.{SMALL}.interactive": ["0", f"{FEW}", f"{FEW}"],
        "broadway.ready.default": ["2", f"{HOSTS * SLOTS}", f"{HOSTS * SLOTS + 2}"],
        "broadway.results": ["0", "0", "0"],
        "broadway.dead": ["0", "0", "0"],
    }
    await page.get_by_role("link", name="Queues", exact=True).click()

    async def are_shown() -> bool:
        shown = {name: [cell for cell in cells if cell.isdigit()][:3] for name, cells in (await rows(page)).items()}
        return expected.items() <= shown.items()

    await until(are_shown)
    await world.rabbit.delete(COPIES)
    await page.locator("table.list", has_text=COPIES).wait_for(state="detached")
    await picture(page.locator("table.list").first, "queues")


async def test_connections_are_named_by_their_purpose(page: Page) -> None:
    await page.get_by_role("link", name="Connections", exact=True).click()
    programs = ("ingest", "dispatcher", "results", "grader", "grader")

    async def are_shown() -> bool:
        shown = await rows(page)
        without = [name for name, cells in shown.items() if cells[-3] == "0"]  # channels, which are counted later
        if any("ingest" not in name for name in without):  # which consumes nothing while no job is watched
            return False
        text = " ".join(shown)
        found = re.findall(r"broadway-(\w+)@\S+ \((publish|consume)\)", text)
        return sorted(found) == sorted((each, way) for each in programs for way in ("publish", "consume"))

    await until(are_shown)
    await picture(page.locator("table.list").first, "connections")


async def test_consumers_are_named_by_their_slot(world: World, page: Page) -> None:
    await open_queue(page, world, "broadway.ready.default")
    await page.get_by_role("heading", name="Consumers").click()
    table = page.locator("table.list", has_text="Consumer tag")

    async def are_shown() -> bool:
        tags = set(re.findall(r"grader@\S+", " ".join(await table.all_inner_texts())))
        return tags == {f"grader@grader-{host}.{slot}" for host in range(1, HOSTS + 1) for slot in range(SLOTS)}

    await until(are_shown)
    await picture(table, "consumers")


async def test_a_message_explains_itself(world: World, page: Page) -> None:
    await open_queue(page, world, COPIES)
    await page.get_by_role("heading", name="Get messages").click()
    await page.get_by_role("button", name="Get Message(s)").click()
    message = page.locator("#msg-wrapper")
    await message.get_by_text("Payload").first.wait_for()

    text = await message.inner_text()
    for name, value in (
        ("ce-type", "io.broadway.jobs.queued.v1"),
        ("ce-subject", f"{LARGE}, bulk (50 jobs)"),
        ("ce-source", "/broadway/ingest@"),
        ("type", "io.broadway.jobs.queued.v1"),
        ("app_id", "broadway-ingest"),
    ):
        assert re.search(rf"\b{re.escape(name)}:\s*{re.escape(value)}", text), text.partition(name)[2][:60]
    parts = json.loads(await message.locator("pre").inner_text())["parts"]
    assert {(each["course"], each["job_class"], each["generation"]) for each in parts} == {(LARGE, "bulk", 1)}
    assert len(parts) == 50
    await picture(message, "course-message")


async def open_queue(page: Page, world: World, name: str) -> None:
    """Open a queue's page."""
    await page.goto(f"{world.rabbit.management_url}/#/queues/{world.rabbit.name}/{name}")
    await page.get_by_role("heading", name=f"Queue {name}").wait_for()

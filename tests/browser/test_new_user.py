"""A new user's first hour: `broadway up`, its link, and from there to a graded submission in the browser alone."""

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from harness import free_port, until
from images import busybox, layout
from playwright.async_api import Browser, Page
from processes import processes
from walking import Walker

IMAGE = "alpine:3"  # that of the example on the page, from this machine's busybox
NEEDED = "main.c"  # the file for which the example looks


@pytest.fixture
async def facts(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """Everything on this machine, by the command of a new user, with the addresses that it prints."""
    ready = tmp_path / "ready.json"
    images = layout(tmp_path / "images", IMAGE, [busybox()])
    command = ("up", "--directory", str(tmp_path / "up"), "--bind-port", str(free_port()), "--json-ready", str(ready))
    async with processes(tmp_path / "logs", {"BROADWAY_OCI_LAYOUT": str(images)}, is_warm=False) as programs:
        environment = {**os.environ, **programs.environment}
        await programs.launch("up", (sys.executable, "-m", "broadway", *command), environment)
        await until(ready.exists, within=120)
        yield json.loads(ready.read_text())
        assert await programs.terminate("up") == 0


@pytest.fixture
async def user(browser: Browser, facts: dict[str, Any]) -> AsyncIterator[Walker]:
    async with contextlib.AsyncExitStack() as stack:
        walker = Walker(browser, facts["api"])
        stack.push_async_callback(walker.close)
        yield walker


async def press(page: Page, name: str, then: str) -> None:
    """Press a button, and wait for the page that it leads to."""
    await page.get_by_role("button", name=name, exact=True).first.click()
    await page.wait_for_url(then)


async def go(page: Page, name: str, then: str) -> None:
    """Follow a link."""
    await page.get_by_role("link", name=name, exact=True).first.click()
    await page.wait_for_url(then)


async def make_course(page: Page, link: str) -> None:
    """Go from the printed link to an assignment with a roster."""
    await page.goto(link)
    await press(page, "Sign in", "**/ui/ops")
    await go(page, "Make the first course", "**/ui/ops/courses")
    await page.fill("#id", "cs101")
    await page.get_by_role("button", name="Make the course").click()
    await press(page, "Go on as staff of cs101", "**/ui/c/cs101")
    await go(page, "make the first one", "**/new")
    await page.fill("#name", "mp1")
    await press(page, "Make the assignment", "**/a/mp1")
    await go(page, "Store one", "**/roster")
    await page.fill("#text", "student\nada\nbob\n")
    await press(page, "Store the roster", "**/a/mp1")


async def link_of(page: Page, student: str) -> str:
    """Make a personal link of a student, and return it."""
    await go(page, "for one student", "**/tokens**")
    await page.fill("#student", student)
    await page.get_by_role("button", name="Make it").click()
    await page.get_by_text("The new link of").wait_for()
    return await page.inner_text(".output code")


async def hand_in(page: Page, file: str) -> None:
    """Hand in a file, and wait for the end of its job without a reload."""
    await page.set_input_files("#files", {"name": file, "mimeType": "text/plain", "buffer": b"int main;"})
    await press(page, "Hand in", "**/ui/j/*")
    await page.wait_for_selector("#status .status:not(.waiting):not(.running)")


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_from_the_printed_link_to_a_graded_submission(facts: dict[str, Any], user: Walker) -> None:
    staff, student = await user.window(), await user.window()
    await make_course(staff, facts["sign_in"])
    await student.goto(await link_of(staff, "ada"))
    await press(student, "Sign in", "**/ui/me")
    await go(student, "mp1", "**/a/mp1")
    await hand_in(student, NEEDED)
    await student.locator("#status").get_by_text("1 of 1").wait_for()
    await student.get_by_role("link", name="cs101").click()
    await go(student, "mp1", "**/a/mp1")
    await hand_in(student, "other.c")
    await student.locator("#status").get_by_text("0 of 1").wait_for()
    assert user.problems == []

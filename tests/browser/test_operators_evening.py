"""An operator's evening on one page: an engine dies, jobs move, a grader is resumed, a dead letter is discarded."""

from typing import Any

import aio_pika
import pytest
from fake_containers import FakeContainers
from harness import Cluster, stage, until
from playwright.async_api import Page
from walking import Walker

from broadway.messages.topology import EVENTS

COURSE = "/api/v2/courses/cs241"
STAFF = {"Authorization": "Bearer staff-241"}
STUDENTS = [f"s{number}" for number in range(6)]
SLOTS = 3  # of each of two graders: all students' jobs run at once
LONG = 600.0  # seconds of the grader's own pause: only the button ends it


async def ask(cluster: Cluster, method: str, path: str, **more: Any) -> Any:
    answer = await cluster.client.http.request(method, f"{COURSE}/{path}", headers=STAFF, **more)
    assert answer.is_success, answer.text
    return answer.json()


async def hand_in(cluster: Cluster, student: str) -> str:
    """Hand in a file for a student, and return the run that grades it."""
    path, files = f"assignments/mp1/submissions?student={student}", [("files", ("main.c", student.encode()))]
    made = await ask(cluster, "POST", path, files=files)
    return str(made["run_id"])


async def opened(walker: Walker) -> Page:
    """Open the page of operators, which stays open for the whole evening."""
    page = await walker.window()
    await walker.sign_in(page, "operator-token")
    await page.wait_for_selector("html[data-seen]")
    await page.evaluate("window.isSamePage = true")
    return page


async def send_nonsense(cluster: Cluster) -> None:
    """Publish an outcome that no service can read."""
    async with await aio_pika.connect(cluster.place.amqp_url) as connection:
        exchange = await (await connection.channel()).get_exchange(EVENTS.name)
        headers: Any = {"ce-type": "io.broadway.job.finished.v1", "ce-id": "nonsense"}
        message = aio_pika.Message(b"{}", headers=headers, user_id=connection.url.user)
        await exchange.publish(message, "job.finished.cs241")


async def grading(cluster: Cluster) -> tuple[FakeContainers, FakeContainers, list[str]]:
    """Let two graders run the jobs of all students; return both engines and the runs."""
    await cluster.client.register("cs241", "mp1", students=[stage("pipe", timeout=3600)])
    await ask(cluster, "PUT", "assignments/mp1/settings", json={"policy": {"attempts": {"total": 2}}})
    roster = {"students": [{"student": each, "env": {}} for each in STUDENTS]}
    await ask(cluster, "PUT", "assignments/mp1/roster", json=roster)
    address = str(cluster.client.http.base_url)
    rules: dict[str, Any] = {"slots": SLOTS, "pause_after": SLOTS, "pause": LONG}
    dying, well = (cluster.graders.attach(name, address, **rules) for name in ("dying", "well"))
    runs = [await hand_in(cluster, student) for student in STUDENTS]
    await until(lambda: len(dying.started) == len(well.started) == SLOTS)
    return dying, well, runs


@pytest.mark.timeout(240)
async def test_an_engine_dies_and_the_page_leads_through_the_evening(cluster: Cluster, visitor: Walker) -> None:
    dying, well, runs = await grading(cluster)
    page = await opened(visitor)
    said, row = page.locator("#status-line"), page.locator("#g-dying")
    await said.get_by_text("all well").wait_for()

    dying.die()
    await said.get_by_text("grader dying has paused itself").wait_for()
    await row.get_by_text("engine: no engine answers").wait_for()
    for _ in STUDENTS:
        well.pipe.put_nowait(None)  # the jobs of both graders end on this one
    jobs = [(await cluster.client.finished("cs241", run))["jobs"][0] for run in runs]
    assert {(job["outcome"], job["grader"]) for job in jobs} == {("succeeded", "well")}
    assert sorted(job["attempts"] for job in jobs) == [1] * SLOTS + [2] * SLOTS

    dying.revive()
    await row.get_by_text("jobs in a row met infrastructure errors").wait_for()  # the engine answers, the pause goes on
    await row.get_by_role("button", name="Resume").click()
    await row.get_by_text("online").wait_for()
    await page.locator("#g-well").get_by_role("button", name="Pause").click()
    await page.locator("#g-well").get_by_text("paused", exact=True).wait_for()
    again = await hand_in(cluster, "s0")
    dying.pipe.put_nowait(None)
    (job,) = (await cluster.client.finished("cs241", again))["jobs"]
    assert (job["outcome"], job["grader"], job["attempts"]) == ("succeeded", "dying", 1)

    await discard_letter(cluster, page)
    await check_students(cluster, visitor)
    assert await page.evaluate("window.isSamePage")
    assert visitor.problems == []


async def discard_letter(cluster: Cluster, page: Page) -> None:
    """Read a dead letter as it comes, and discard it, which the page does not do unasked."""
    await send_nonsense(cluster)
    letter = page.locator("section[aria-labelledby=dead] tbody tr")
    await page.locator("#status-line").get_by_text("1 dead letter").wait_for()
    await letter.get_by_text("broadway.results").wait_for()
    await letter.get_by_text("Body").first.click()
    await letter.locator("pre").get_by_text("{}").wait_for()
    await letter.get_by_role("button", name="Discard").click()
    assert not await letter.get_by_role("checkbox").evaluate("(box) => box.checkValidity()")
    assert await cluster.opened.store.dead_letters.count() == 1
    await letter.get_by_role("checkbox").check()
    await letter.get_by_role("button", name="Discard").click()
    await page.locator("#status-line").get_by_text("all well").wait_for()
    assert await letter.count() == 0
    assert await cluster.opened.store.dead_letters.count() == 0


async def check_students(cluster: Cluster, visitor: Walker) -> None:
    """Check that each submission has used one attempt, on however many graders its job was started."""
    for student in STUDENTS:
        standing = await ask(cluster, "GET", f"students/{student}/assignments")
        used = [each["attempts"]["used"] for each in standing["items"] if each["assignment"] == "mp1"]
        assert used == [2 if student == "s0" else 1], student
    token = await ask(cluster, "POST", "student-tokens", json={"student": "s1"})
    page = await visitor.window()
    await visitor.sign_in(page, token["token"])
    await page.get_by_role("link", name="mp1", exact=True).click()
    await page.get_by_text("1 attempt left").wait_for()

"""Pages in a real browser: both themes, wide and narrow, without script errors, and live without a reload."""

import os
from dataclasses import replace
from secrets import token_hex

from browser.conftest import PICTURES
from graded import NOW, World, results
from harness import IS_WHOLE, token_of
from playwright.async_api import Page
from walking import Walker
from writers import Database, Writer

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.job import Outcome
from broadway.domain.originals import Reported
from broadway.domain.regrade import Regrade, RegradeOrder
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.domain.report import Report
from broadway.messages.http import IDENTITY_HEADER

CLASS = 120 if IS_WHOLE or PICTURES in os.environ else 24
STUDENTS = [f"student-{number:03}" for number in range(CLASS)]
TESTS = [
    {"key": "adds", "name": {"body": "adds two numbers"}, "number": "1.1", "status": "passed", "score": 2, "max": 2},
    {
        "key": "overflow",
        "name": {"body": "overflow"},
        "number": "3.2",
        "status": "failed",
        "score": 0,
        "max": 2,
        "output": {"body": "\x1b[31mexpected 2147483648\x1b[0m\ngot -2147483648", "format": "ansi"},
        "tags": ["integers"],
    },
    {"key": "leak", "name": {"body": "frees its memory"}, "number": "3.3", "status": "failed", "score": 0, "max": 1},
]
LOG = "".join(f"2026-01-01T00:00:00.{number}Z line \x1b[32m{number}\x1b[0m\n" for number in range(40))


def report(score: int, *, tests: int = 3) -> Reported:
    fields = {"source": "gradescope", "score": score, "max": 20, "log_visibility": "visible", "tests": TESTS[:tests]}
    return Reported(report=Report.model_validate(fields))


async def graded(world: World) -> None:
    """Give a class results of every kind."""
    await world.begin(*STUDENTS)
    for number, student in enumerate(STUDENTS[: CLASS // 2]):
        if number % 10 == 3:
            reason = "main.c:3: undefined reference to main"
            await world.finish(student, [{"success": False}], outcome=Outcome.FAILED, reason=reason)
        elif number % 10 == 7:
            await world.finish(student, [{"success": False}], outcome=Outcome.TIMED_OUT, reason="stage 1 ran 30 s")
        else:
            await world.finish(student, results(report(number % 21)), stdout=LOG)
    await world.start(STUDENTS[CLASS // 2])


async def test_every_page_in_both_themes_wide_and_narrow(world: World, walker: Walker) -> None:
    await graded(world)
    course, run = f"/ui/c/{world.course}", f"/ui/c/{world.course}/r/{world.run}"
    job, failed = (f"/ui/j/{world.jobs[student]}" for student in (STUDENTS[5], STUDENTS[3]))
    own = [("sign-in", "/ui/sign-in"), ("sessions", "/ui/sessions")]
    for_staff = [
        *own,
        ("course", course),
        ("run", run),
        ("job", job),
        ("failed", failed),
        ("queue", f"/ui/j/{world.jobs[STUDENTS[CLASS * 3 // 4]]}"),
    ]
    for_staff += [("student", f"{course}/s/{STUDENTS[5]}"), ("nothing", "/ui/nothing")]
    book = f"{course}/a/mp1/grades"
    regrade = Regrade(token_hex(12), world.course, "mp1", RegradeOrder(Select.ALL), {}, "d", NOW)
    assert await world.opened.store.grades.regrades.add(replace(regrade, state=RegradeState.READY))
    for_staff += [
        ("assignment", f"{course}/a/mp1"),
        ("connections", f"{course}/connections"),
        ("audit", f"{course}/audit"),
        ("regrades", f"{course}/regrades"),
        ("regrade", f"{course}/regrades/{regrade.id}"),
    ]
    for_staff += [("grades", book), ("versions", f"{book}/versions"), ("grade", f"{book}/s/{STUDENTS[0]}")]
    for_students = [
        ("home", "/ui/me"),
        ("hand-in", "/ui/me/a/mp1"),
        ("result", job.replace(world.jobs[STUDENTS[5]], world.jobs[STUDENTS[0]])),
    ]
    for theme, (width, height) in walker.views:
        for token, pages in (
            ("operator-token", [("operations", "/ui/ops")]),
            (token_of(world.course), for_staff),
            (world.tokens[STUDENTS[0]], for_students),
        ):
            page = await walker.window(width=width, height=height, theme=theme)
            await walker.sign_in(page, token)
            for name, address in pages:
                await page.goto(f"{walker.base}{address}")
                await walker.check_first_load(page)
                await walker.check(page)
                await walker.picture(page, f"{name}-{theme}-{width}")
                await page.set_viewport_size({"width": 320, "height": height})
                await walker.check_reflow(page)
                await page.set_viewport_size({"width": width, "height": height})
            await page.context.close()
    assert "\n".join(each for each in walker.problems if "404 (Not Found)" not in each) == ""


async def test_a_job_and_its_run_change_without_a_reload(world: World, walker: Walker) -> None:
    page = await walker.window()
    await walker.sign_in(page, token_of(world.course))
    await page.goto(f"{walker.base}/ui/c/{world.course}/r/{world.run}")
    run = await page.context.new_page()
    run, page = page, run
    await page.goto(f"{walker.base}/ui/j/{world.jobs['ada']}")
    await page.wait_for_selector("html[data-seen]")  # the first event has arrived
    await page.evaluate("window.isSamePage = true")
    await run.evaluate("window.isSamePage = true")

    execution = await world.start("ada")
    await page.wait_for_selector("#status .status.running")
    await world.finish("ada", results(report(17)), execution=execution)
    await page.wait_for_selector("#status .status.good")
    await page.wait_for_selector("html[data-live=over]")
    assert await page.inner_text("#status .score") == "17 of 20"
    assert await page.locator(".tests > li").count() == 3
    await run.wait_for_selector(f"#j-{world.jobs['ada']} .status.good")
    assert "1 of 2 finished" in await run.inner_text("#status")
    assert await page.evaluate("window.isSamePage")
    assert await run.evaluate("window.isSamePage")
    assert walker.problems == []


async def test_a_log_is_followed_while_its_box_is_ticked(world: World, walker: Walker, database: Database) -> None:
    writer = await Writer.that_runs(world, "ada", database)
    page = await walker.window()
    await walker.sign_in(page, token_of(world.course))
    await page.goto(f"{walker.base}/ui/j/{world.jobs['ada']}")
    await page.wait_for_selector("html[data-seen]")
    await page.evaluate("window.isSamePage = true")
    lines = page.locator("#live-lines")
    assert not await lines.is_visible()
    async with writer.writes((0, 0, 0, ["<b>first</b>"]), (0, 3, 3, ["fourth"])):
        await page.get_by_label("Follow the log").check()
        await lines.get_by_text("fourth").wait_for()
    assert "<b>first</b>" in await lines.inner_text()
    assert "2 lines are missing here" in await lines.inner_text()
    await walker.check(page)
    await world.finish("ada", results(report(17)), execution=writer.execution, stdout="a\nb\nc\nfourth\n")
    await page.locator("#L4").wait_for()  # the stored log takes the place of the live one
    assert await lines.count() == 0
    assert await page.evaluate("window.isSamePage")
    assert walker.problems == []


async def test_a_page_that_was_hidden_catches_up_when_it_is_seen(world: World, walker: Walker) -> None:
    page = await walker.window()
    await walker.sign_in(page, token_of(world.course))
    await page.goto(f"{walker.base}/ui/j/{world.jobs['ada']}")
    await page.wait_for_selector("html[data-seen]")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    notify = "document.dispatchEvent(new Event('visibilitychange'))"
    await page.evaluate(hide % "true" + notify)
    await world.finish("ada", results(report(17)))
    assert await page.locator("#status .status.waiting").count() == 1

    async with page.expect_request(lambda request: "since=" in request.url):
        await page.evaluate(hide % "false" + notify)
    await page.wait_for_selector("#status .status.good")
    assert walker.problems == []


async def test_an_operator_pauses_and_resumes_a_grader_without_a_reload(world: World, walker: Walker) -> None:
    page = await walker.window()
    await walker.sign_in(page, "operator-token")
    await page.evaluate("window.isSamePage = true")
    name = f"g-{token_hex(4)}"
    headers = {"Authorization": "Bearer cluster-token", IDENTITY_HEADER: new_secret(SecretPrefix.GRADER)}
    joined = await world.client.http.post(f"/api/v2/graders/{name}", json={"hostname": "h"}, headers=headers)
    assert joined.status_code == 200, joined.text
    row = page.locator(f"#g-{name}")
    await row.wait_for()  # it has joined while the page was open
    await row.get_by_role("button", name="Pause").click()
    await row.get_by_role("button", name="Resume").click()
    await row.get_by_role("button", name="Pause").wait_for()
    await row.get_by_label("Slots of").fill("9")
    await row.get_by_role("button", name="Set slots").click()
    await row.locator("input[name=slots][value='9']").wait_for()
    await row.get_by_label("Slots of").fill("0")
    await row.get_by_role("button", name="Set slots").click()
    await page.get_by_role("heading", name="Not accepted").wait_for()
    assert await page.evaluate("window.isSamePage")
    assert [each for each in walker.problems if "422" not in each] == []


async def test_pages_work_without_script(world: World, walker: Walker) -> None:
    await world.finish("ada", results(report(17)))
    page = await walker.window(java_script_enabled=False)
    await walker.sign_in(page, world.tokens["ada"])
    await page.click("text=mp1")
    await page.set_input_files("#files", {"name": "main.c", "mimeType": "text/plain", "buffer": b"int main;"})
    await page.click("text=Hand in >> nth=-1")
    await page.wait_for_url("**/ui/j/*")
    assert "queued" in await page.inner_text("#status")
    await page.click("text=Sign out")
    await page.wait_for_url("**/ui/sign-in")
    assert walker.problems == []


async def test_a_submission_is_handed_in_and_read_by_keyboard(world: World, walker: Walker) -> None:
    await world.finish("ada", results(report(17)), stdout=LOG)
    page = await walker.window()
    await page.goto(f"{walker.base}/ui/sign-in")
    await page.wait_for_selector("[autofocus]:focus")
    await page.keyboard.type(world.tokens["ada"])
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/ui/me")
    await tab_to(page, "mp1")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/ui/me/a/mp1")
    await page.set_input_files("#files", {"name": "main.c", "mimeType": "text/plain", "buffer": b"int main;"})
    await tab_to(page, "Hand in")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/ui/j/*")

    await page.goto(f"{walker.base}/ui/j/{world.jobs['ada']}")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")  # past the top of the page
    assert await page.evaluate("document.activeElement.id") == "main"
    await tab_to(page, "output")
    opened = await page.evaluate("document.activeElement.parentElement.open")
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.parentElement.open") is not opened
    assert walker.problems == []


async def test_staff_filter_a_run_by_keyboard(world: World, walker: Walker) -> None:
    await world.finish("ada", results(report(17)))
    page = await walker.window()
    await walker.sign_in(page, token_of(world.course))
    await tab_to(page, "mp1")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/r/*")
    await tab_to(page, "", field="find")
    await page.keyboard.type("bob")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**find=bob*")
    assert await page.locator("tbody tr").count() == 1
    await tab_to(page, "bob")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/ui/j/*")
    assert walker.problems == []


async def tab_to(page: Page, text: str, *, field: str = "", most: int = 60) -> None:
    """Press Tab until an element of a text, or a field of a name, has the focus, which must be visible."""
    for _ in range(most):
        await page.keyboard.press("Tab")
        found = await page.evaluate(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return [e.innerText?.trim() ?? '', e.getAttribute('name') ?? '', s.outlineStyle] })()"
        )
        if (field and found[1] == field) or (not field and found[0] == text):
            assert found[2] != "none", "the focus cannot be seen"
            return
    raise AssertionError(f"no way to {text or field} by keyboard")

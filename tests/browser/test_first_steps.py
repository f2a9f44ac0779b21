"""Pages of tokens, courses and first steps in a real browser: both themes, wide and narrow, with and without script."""

from secrets import token_hex

from graded import NOW, World
from harness import token_of
from walking import Walker

from broadway.domain.callback_delivery import Endpoint


async def filled(world: World) -> None:
    """Give the lists of a course rows of every kind: tokens, deliveries, actions."""
    for path, body in (
        ("tokens", {"name": "ana", "kind": "staff"}),
        ("tokens", {"name": "robot", "kind": "query", "expires_in_days": 3}),
        ("student-tokens", {"student": "bob"}),
    ):
        assert (await world.ask(path, "POST", json=body)).status_code == 201
    ana = (await world.ask("tokens")).json()["items"][-1]["id"]
    assert (await world.ask(f"tokens/{ana}", "DELETE")).status_code == 204
    endpoint = Endpoint(token_hex(12), world.course, "lms", "https://example.org", "s", NOW)
    assert await world.opened.store.callbacks.endpoints.add(endpoint)


async def test_pages_of_tokens_and_first_steps_in_both_themes_wide_and_narrow(world: World, walker: Walker) -> None:
    await filled(world)
    course = f"/ui/c/{world.course}"
    for_staff = [
        f"{course}/{each}" for each in ("tokens", "new", "a/mp1/roster", "callbacks/lms", "audit?about=tokens")
    ]
    for_operators = ["/ui/ops/courses", "/ui/ops/audit", f"{course}/tokens"]
    for theme, (width, height) in walker.views:
        for token, addresses in (("operator-token", for_operators), (token_of(world.course), for_staff)):
            page = await walker.window(width=width, height=height, theme=theme)
            await walker.sign_in(page, token)
            for address in addresses:
                await page.goto(f"{walker.base}{address}")
                await walker.check(page)
                await page.set_viewport_size({"width": 320, "height": height})
                await walker.check_reflow(page)
                await page.set_viewport_size({"width": width, "height": height})
            await page.context.close()
    assert "\n".join(walker.problems) == ""


async def test_a_first_course_is_made_without_script(world: World, walker: Walker) -> None:
    name = f"{world.course}-new"
    page = await walker.window(java_script_enabled=False)
    await walker.sign_in(page, "operator-token")
    await page.click("text=Courses and tokens")
    await page.fill("#id", name)
    await page.press("#id", "Enter")
    await page.get_by_text("What to do next").wait_for()
    await page.click(f"text=Go on as staff of {name}")
    await page.wait_for_url(f"**/ui/c/{name}")
    await page.click("text=make the first one")
    await page.fill("#name", "mp1")
    await page.fill("#text", "{}")
    await page.click("text=Make the assignment >> nth=0")
    await page.get_by_text("student_pipeline: is missing").wait_for()
    assert await page.input_value("#name") == "mp1"
    await page.fill("#text", '{"student_pipeline": [{"image": "alpine:3"}]}')
    await page.click("text=Make the assignment >> nth=0")
    await page.wait_for_url(f"**/ui/c/{name}/a/mp1")
    await page.click("text=Store one")
    await page.set_input_files("#file", {"name": "r.csv", "mimeType": "text/csv", "buffer": b"student\nada\n"})
    await page.click("text=Store the file")
    await page.get_by_text("Start a run for all 1").wait_for()
    await page.goto(f"{walker.base}/ui/c/{name}/tokens")
    await page.fill("#student", "ada")
    await page.press("#student", "Enter")
    await page.get_by_text("It is shown this once").wait_for()
    assert [each for each in walker.problems if "status of 4" not in each] == []


async def test_a_refused_form_is_read_to_the_person_with_script(world: World, walker: Walker) -> None:
    page = await walker.window()
    await walker.sign_in(page, token_of(world.course))
    await page.goto(f"{walker.base}/ui/c/{world.course}/new")
    await page.fill("#name", "mp2")
    await page.fill("#text", "{")
    await page.get_by_role("button", name="Make the assignment").first.click()
    await page.get_by_role("alert").get_by_text("line 1, column 2").wait_for()
    await walker.check(page)
    await page.goto(f"{walker.base}/ui/c/{world.course}/tokens")
    await page.fill("#name", "ana")
    await page.fill("#days", "soon")
    await page.get_by_role("button", name="Make the token").first.click()
    await page.get_by_role("alert").get_by_text("days: expected a number").wait_for()
    await walker.check(page)
    await page.fill("#days", "3")
    await page.get_by_role("button", name="Make the token").first.click()
    await page.get_by_text("It is shown this once").wait_for()
    await walker.check(page)
    assert [each for each in walker.problems if "status of 4" not in each] == []

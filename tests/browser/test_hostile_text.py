"""Hostile texts in every field, on every page, in a real browser: text they stay."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from graded import World
from harness import token_of
from hostile_texts import OBEYED, HostileCourse
from playwright.async_api import Page
from walking import Walker

from broadway.domain.access import Kind
from broadway.ingest.http.rights import rights_of
from broadway.ingest.ui.routes import PAGES

NARROW = 320
PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
# Answers that are no pages: streams, which pages open, and files, which no browser shows.
STREAM, FILE = re.compile("/live$"), re.compile("/log$|/files|/artifacts/|/export$")
SEEN = """() => {
  const all = [...document.querySelectorAll("*")];
  const names = ["title", "aria-label", "placeholder", "alt"];
  const said = all.flatMap((each) => names.map((name) => each.getAttribute(name) ?? ""));
  const runs = all.filter((each) => [...each.attributes].some((one) => one.name.startsWith("on")));
  const script = "script:not([src^='/ui/static/']), a[href^='javascript:' i]";
  const places = document.querySelectorAll(`${script}, main [src], iframe, object, embed`);
  return {
    text: [document.title, document.body.textContent, ...said].join("\\n"),
    bad: [...runs, ...places].map((each) => each.outerHTML.slice(0, 200)),
    hurt: window.hurt,
  };
}"""


def addresses(parts: dict[str, list[str]]) -> list[tuple[str, str, frozenset[Kind], bool]]:
    """Return the addresses of each page of the route table, and the sessions that it admits."""
    found = []
    for path, handlers in PAGES.items():
        if "GET" not in handlers:
            continue
        rights = rights_of(handlers["GET"])
        names = PARAMETER.findall(path)
        assert set(names) <= set(parts), f"{path}: say in hostile_texts which {names} there are"
        first = {name: parts[name][0] for name in names}
        for last in parts[names[-1]] if names else [""]:
            given = {**first, **({names[-1]: last} if names else {})}
            url = PARAMETER.sub(lambda name, given=given: quote(given[name[1]], safe=""), path)  # type: ignore[misc]
            found.append((path, url, rights.kinds, rights.is_open))
    return found


@pytest.mark.parametrize("theme", ["dark", pytest.param("light", marks=pytest.mark.long)])
async def test_hostile_texts_stay_text_on_every_page(world: World, walker: Walker, theme: str) -> None:
    course = HostileCourse(world)
    await course.fill()
    parts = {"course": [world.course], "assignment": ["mp1", "mp2"], "token": ["bwl_" + "x" * 43], "rest": ["nothing"]}
    known = addresses(course.parts | parts)
    windows: dict[Kind, Page] = {}
    for kind, token in (
        (Kind.COURSE, token_of(world.course)),
        (Kind.STUDENT, world.tokens[course.ada]),
        (Kind.OPERATOR, "operator-token"),
    ):
        windows[kind] = await walker.window(width=NARROW, height=740, theme=theme)
        windows[kind].on("dialog", lambda dialog: walker.problems.append(f"dialog: {dialog.message}"))
        await walker.sign_in(windows[kind], token)
    seen: set[str] = set()
    tried: set[str] = set()
    for path, url, kinds, is_open in known:
        for kind in windows if is_open else kinds & windows.keys():
            if STREAM.search(url):
                continue
            if FILE.search(url):
                await check_file(walker, windows[kind], url)
            else:
                seen |= await check_page(walker, windows[kind], url, course.markers, is_first=path not in tried)
                tried.add(path)
    problems = [each for each in dict.fromkeys(walker.problems) if "404 (Not Found)" not in each]
    assert not problems, "\n".join(problems)
    assert course.markers - seen == set()


async def check_page(walker: Walker, page: Page, url: str, markers: set[str], *, is_first: bool) -> set[str]:
    answer = await page.goto(f"{walker.base}{url}", wait_until="load")
    assert answer is not None
    if answer.status not in (200, 404):
        walker.problems.append(f"{url}: {answer.status}")
    await (walker.check(page) if is_first else walker.check_reflow(page))
    found: dict[str, Any] = await page.evaluate(SEEN)
    if hidden := set(OBEYED) & set(found["text"]):
        walker.problems.append(f"{url}: shows {sorted(map(ascii, hidden))}")
    if found["bad"] or found.get("hurt"):
        walker.problems.append(f"{url}: {found['bad']} {found.get('hurt')}")
    return {each for each in markers if each in found["text"]}


async def check_file(walker: Walker, page: Page, url: str) -> None:
    answer = await page.context.request.get(f"{walker.base}{url}")
    if answer.status == 200 and not answer.headers["content-disposition"].startswith("attachment"):
        walker.problems.append(f"{url}: is shown")
    if answer.status >= 500:
        walker.problems.append(f"{url}: {answer.status}")

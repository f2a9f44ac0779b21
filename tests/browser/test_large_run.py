"""A run of 2,000 students that goes on, on all pages that show it: live, accessible, in both themes, at every width."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from fake_containers import FakeContainers
from harness import Cluster, stage, token_of, until
from playwright.async_api import Page
from walking import SIZES, THEMES, Walker

COURSE, STUDENTS, ROWS = "cs241", 2000, 100
SLOTS = 4  # of each of two graders
FIRST = 60  # jobs of each grader that have ended before the walk
NARROW = 320
STAFF = {"Authorization": f"Bearer {token_of(COURSE)}"}


@dataclass
class LargeRun:
    """A run whose jobs end when the test lets them."""

    cluster: Cluster
    engines: tuple[FakeContainers, FakeContainers]
    id: str
    ended: int = 0

    def end(self, jobs: int) -> None:
        """Let each of both graders end a number of jobs."""
        self.ended += jobs * len(self.engines)
        for engine in self.engines:
            for _ in range(jobs):
                engine.pipe.put_nowait(None)

    async def running(self) -> list[str]:
        """Return the running jobs, once all slots have one."""
        jobs = await self.cluster.client.jobs(COURSE, self.id)
        found = [job["id"] for job in jobs if job["state"] == "running"]
        return found if len(found) == SLOTS * len(self.engines) else []


@pytest.fixture
async def run(cluster: Cluster) -> AsyncIterator[LargeRun]:
    """A run of the whole roster, a tenth of which fails; it has begun, and both graders are busy with it."""
    stages = [stage("pipe", timeout=10_000), stage("fails-for", "NETID", "7")]
    await cluster.client.register(COURSE, "mp1", students=stages)
    entries = [{"student": f"student-{number:04}", "env": {"NETID": f"{number:04}"}} for number in range(STUDENTS)]
    await ask(cluster, "PUT", "assignments/mp1/roster", json={"students": entries})
    made = await ask(cluster, "POST", "assignments/mp1/runs", json={"students": "all"})
    address = str(cluster.client.http.base_url)
    first, second = (cluster.graders.attach(name, address, slots=SLOTS) for name in ("g1", "g2"))
    run = LargeRun(cluster, (first, second), made["id"])
    run.end(FIRST)
    yield run
    await ask(cluster, "POST", f"runs/{run.id}/cancel")


async def ask(cluster: Cluster, method: str, path: str, **more: Any) -> Any:
    url = f"/api/v2/courses/{COURSE}/{path}"
    answer = await cluster.client.http.request(method, url, headers=STAFF, **more)
    assert answer.is_success, answer.text
    return answer.json()


async def changes(page: Page, selector: str, act: Callable[[], Awaitable[object]]) -> None:
    """Wait until an element has another text than before an act, without a reload."""
    await page.wait_for_selector("html[data-seen]")
    await page.evaluate("window.isSamePage = true")
    before = await page.inner_text(selector)
    await act()
    await page.wait_for_function(
        "([selector, before]) => document.querySelector(selector).innerText !== before", arg=[selector, before]
    )
    assert await page.evaluate("window.isSamePage")


async def check(walker: Walker, page: Page) -> None:
    """Check a page as it is, and in a narrow window."""
    size = page.viewport_size
    assert size is not None
    await walker.check(page)
    await page.set_viewport_size({"width": NARROW, "height": size["height"]})
    await walker.check_reflow(page)
    await page.set_viewport_size(size)


async def walk_as_staff(walker: Walker, page: Page, run: LargeRun) -> None:
    async def end_some() -> None:
        run.end(SLOTS)

    await page.goto(f"{walker.base}/ui/c/{COURSE}")
    await changes(page, "#work tbody tr", end_some)
    await check(walker, page)
    await page.goto(f"{walker.base}/ui/c/{COURSE}/r/{run.id}")
    await changes(page, "#status-line", end_some)
    await page.get_by_text(f"{run.ended} of {STUDENTS:,} finished").wait_for()
    assert await page.locator("table.rows tbody tr").count() == ROWS
    await page.wait_for_function("document.querySelectorAll('tr .status.good').length > 0")
    await check(walker, page)
    job, *_ = await until(run.running)
    await page.goto(f"{walker.base}/ui/j/{job}")
    await changes(page, "#status", end_some)  # all running jobs end
    await page.wait_for_selector("html[data-live=over]")
    await check(walker, page)


async def walk_as_operator(walker: Walker, page: Page, run: LargeRun) -> None:
    async def end_some() -> None:
        run.end(SLOTS)

    await page.goto(f"{walker.base}/ui/ops")
    await changes(page, "section[aria-labelledby=pools] tbody [data-label=waiting]", end_some)
    await check(walker, page)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("theme", "size"), list(product(THEMES, SIZES)), ids=str)
async def test_pages_of_a_run_of_2000_that_goes_on(
    run: LargeRun, visitor: Walker, theme: str, size: tuple[int, int]
) -> None:
    width, height = size
    for token, walk in ((token_of(COURSE), walk_as_staff), ("operator-token", walk_as_operator)):
        page = await visitor.window(width=width, height=height, theme=theme)
        await visitor.sign_in(page, token)
        await walk(visitor, page, run)
        await page.context.close()
    assert "\n".join(visitor.problems) == ""

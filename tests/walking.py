"""A person at a browser: opens pages, and notices all that must not happen on any of them."""

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness import IS_WHOLE, PATIENCE
from playwright.async_api import Browser, BrowserContext, Page

SIZES = ((1280, 800), (360, 740))
THEMES = ("light", "dark")
MOST_REQUESTS, MOST_BYTES = 6, 60_000  # of the first load of a page
DOCUMENTED = {"run-light-1280": "run", "job-dark-1280": "job"}


@cache
def axe() -> str:
    """Return the source of axe-core, which the package has in a file of its own."""
    return next(file for file in files("axe_playwright_python").iterdir() if file.name == "axe.min.js").read_text()


@dataclass
class Walker:
    """A browser window with a session of its own. ``problems`` must stay empty."""

    browser: Browser
    base: str
    pictures: Path | None = None
    problems: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)

    @property
    def views(self) -> list[tuple[str, tuple[int, int]]]:
        """One theme and size, as hostile texts have the dark, narrow pages; every pair in `make faults`."""
        pairs = list(product(THEMES, SIZES))
        return pairs if IS_WHOLE or self.pictures else pairs[:1]

    async def window(self, *, width: int = 1280, height: int = 800, theme: str = "light", **more: Any) -> Page:
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce", **more
        )
        context.set_default_timeout(PATIENCE * 1000)
        self._contexts.append(context)
        page = await context.new_page()
        page.on("console", lambda message: self._note_console(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", lambda request: self._note_request(request.url))
        return page

    def _note_console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(f"console: {text}")

    def _note_request(self, url: str) -> None:
        if not url.startswith((f"{self.base}/", "data:")):
            self.problems.append(f"foreign request: {urlsplit(url).netloc}")

    async def sign_in(self, page: Page, token: str) -> None:
        await page.goto(f"{self.base}/ui/sign-in")
        await page.fill("#token", token)
        await page.keyboard.press("Enter")
        await page.wait_for_url(lambda url: "sign-in" not in url)

    async def check(self, page: Page) -> None:
        """Note violations of accessibility, and text that makes the page wider than the window."""
        await page.evaluate(axe())
        found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for violation in found["violations"]:
            nodes = [node["html"][:200] for node in violation["nodes"][:3]]
            self.problems.append(f"{page.url} {page.viewport_size}: {violation['id']}: {violation['help']} {nodes}")
        await self.check_reflow(page)

    async def check_reflow(self, page: Page) -> None:
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            self.problems.append(f"{page.url} {page.viewport_size}: {wide} pixels too wide")

    async def check_first_load(self, page: Page) -> None:
        """Note a page that asks for more than its budget: bytes count as compressed, cached ones too."""
        loaded = await page.evaluate(
            "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
            ".filter((each) => !new URL(each.name).pathname.endsWith('/live')).map((each) => each.encodedBodySize)"
        )
        requests = len(loaded) + await page.locator("main[data-live]").count()
        if requests > MOST_REQUESTS or not 0 < sum(loaded) <= MOST_BYTES:
            self.problems.append(f"{page.url}: {requests} requests, {sum(loaded)} bytes")

    async def picture(self, page: Page, name: str) -> None:
        """Take a picture for the documents, if they are to be made."""
        if self.pictures and name in DOCUMENTED:
            self.pictures.mkdir(parents=True, exist_ok=True)
            await page.screenshot(path=self.pictures / f"{DOCUMENTED[name]}.png")

    async def close(self) -> None:
        for context in self._contexts:
            await context.close()

"""Visitors of pages: clients with cookies, as a browser sends requests."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

import httpx2
from harness import PATIENCE

OWN = {"Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True)
class Visitor:
    """A browser that is signed in, or not yet."""

    http: httpx2.AsyncClient

    @classmethod
    @contextlib.asynccontextmanager
    async def signed_in(cls, url: str, token: str) -> AsyncIterator[Self]:
        async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as http:
            visitor = cls(http)
            answer = await visitor.post("/ui/sign-in", {"token": token})
            assert answer.status_code == 303, answer.text
            yield visitor

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        return await self.http.get(path, **more)

    async def text(self, path: str) -> str:
        answer = await self.get(path)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return answer.text

    async def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> httpx2.Response:
        return await self.http.post(path, data=form or {}, headers=OWN | headers)

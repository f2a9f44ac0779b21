"""The OpenAPI document of v2, and a page to read it with, which needs nothing from elsewhere."""

from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from broadway.ingest.http.answers import CORS
from broadway.ingest.http.deps import Deps
from broadway.ingest.v2.openapi import openapi
from broadway.ingest.v2.routes import V2

OWN = "default-src 'self' 'unsafe-inline' data:"


async def openapi_json(_: Request, __: Deps) -> Response:
    """What v2 takes and answers, for programs."""
    return JSONResponse(document(), headers=CORS)


async def page(_: Request, __: Deps) -> Response:
    """The same for people."""
    return HTMLResponse(_page(), headers={"Content-Security-Policy": OWN})


@cache
def document() -> dict[str, Any]:
    return openapi((path, method, handler) for path, handlers in V2.items() for method, handler in handlers.items())


@cache
def _page() -> str:
    from offapi import OpenAPITemplate  # noqa: PLC0415 - its templates are megabytes that few ask for

    page = OpenAPITemplate.SWAGGER.value.format(spec_url="/api/v2/openapi.json")
    return page.replace('layout: "StandaloneLayout"', 'layout: "BaseLayout", validatorUrl: null')

"""The OpenAPI document of v2, and a page that shows those of v2 and v1. The page loads nothing from other servers."""

import json
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from broadway.ingest.http.answers import CORS
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.v2.openapi import openapi
from broadway.ingest.v2.routes import V2

OWN = "default-src 'self' 'unsafe-inline' data:"
PATH = "/api/v2/openapi.json"
_SHOWN = [{"name": "v2", "url": PATH}, {"name": "v1", "url": "/api/v1/openapi.yaml"}]


@takes(Auth.ANYBODY)
async def openapi_json(_: Request, __: Deps) -> Response:
    """Serve the OpenAPI document of v2."""
    return JSONResponse(document(), headers=CORS)


@takes(Auth.ANYBODY)
async def page(_: Request, __: Deps) -> Response:
    """Serve the page that shows the OpenAPI documents of both versions."""
    return HTMLResponse(_page(), headers={"Content-Security-Policy": OWN})


@cache
def document() -> dict[str, Any]:
    return openapi((path, method, handler) for path, handlers in V2.items() for method, handler in handlers.items())


@cache
def _page() -> str:
    from offapi import OpenAPITemplate  # noqa: PLC0415 - megabytes of templates that few processes need

    page = OpenAPITemplate.SWAGGER.value.format(spec_url=PATH)
    page = page.replace(f"url: '{PATH}'", f"urls: {json.dumps(_SHOWN)}")
    return page.replace('layout: "StandaloneLayout"', 'layout: "StandaloneLayout", validatorUrl: null')

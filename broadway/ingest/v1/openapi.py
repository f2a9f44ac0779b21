"""The OpenAPI document of v1: written by hand, since the interface is frozen, and served unchanged."""

from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.http.answers import CORS
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, takes

PATH = "/api/v1/openapi.yaml"


@takes(Auth.ANYBODY)
async def openapi_yaml(_: Request, __: Deps) -> Response:
    """Serve the OpenAPI document of v1."""
    return Response(document(), headers=CORS, media_type="application/yaml")


@cache
def document() -> bytes:
    """Return the text of the document, a file of the package."""
    return (resources.files("broadway.ingest.v1") / "openapi.yaml").read_bytes()

"""The OpenAPI document of v1: valid, complete, served, and shown beside v2's."""

import json
import re
from typing import Any, cast

from harness import Client
from openapi_spec_validator import OpenAPIV31SpecValidator
from ruamel.yaml import YAML
from starlette.routing import Route

from broadway.ingest.http.deps import Deps
from broadway.ingest.v1 import openapi, routes
from broadway.ingest.v1.openapi import PATH

UNUSED = cast("Deps", None)  # routes use their dependencies at requests only
SOCKETS = "/worker_ws/{worker_id}"  # OpenAPI cannot describe WebSockets


def parsed(text: bytes) -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return document


def errors(document: dict[str, Any]) -> list[str]:
    return [
        f"{list(error.absolute_path)}: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()
    ]


def test_the_document_is_valid() -> None:
    assert errors(parsed(openapi.document())) == []


def test_a_comma_in_an_unquoted_description_is_found() -> None:
    quoted = b'"A token of the course in the path. Query tokens can read states, positions and streams only."'
    assert quoted in openapi.document()

    assert errors(parsed(openapi.document().replace(quoted, quoted.strip(b'"'))))


async def test_the_document_has_each_path_and_method_of_v1(client: Client) -> None:
    served = set()
    for route in routes.routes(UNUSED):
        if isinstance(route, Route):
            refusal = await client.http.delete(re.sub(r"\{\w+:\w+\}", "x", route.path))
            methods = refusal.headers["allow"].removesuffix(", OPTIONS").split(", ")
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path.removeprefix("/api/v1"))
            served |= {(path, method) for method in methods}
    described = {
        (path, method.upper())
        for path, item in parsed(openapi.document())["paths"].items()
        for method in item
        if method != "parameters"
    }

    assert served - {(SOCKETS, "GET")} == described


async def test_the_document_is_served(client: Client) -> None:
    answer = await client.http.get(PATH)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/yaml"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.content == openapi.document()


async def test_the_page_offers_both_versions(client: Client) -> None:
    page = (await client.http.get("/docs")).text

    (urls,) = re.findall(r"SwaggerUIBundle\(\{\s+urls: (\[.*?\]),", page)
    assert [each["name"] for each in json.loads(urls)] == ["v2", "v1"]
    for each in json.loads(urls):
        assert (await client.http.get(each["url"])).status_code == 200
    assert 'layout: "StandaloneLayout", validatorUrl: null' in page

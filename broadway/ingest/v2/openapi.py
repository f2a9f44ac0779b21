"""What the handlers of v2 take and answer, said beside each of them, and the OpenAPI document that follows from it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broadway import __version__
from broadway.ingest.http.answers import CORS
from broadway.ingest.http.bodies import InvalidBodyError, check
from broadway.messages.resources.base import MAX_PAGE, Problem

SCHEMAS = "#/components/schemas/"

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])
Query = TypeVar("Query", bound=BaseModel)


class Auth(StrEnum):
    """Who may ask."""

    COURSE = "courseToken"
    CLUSTER = "clusterToken"
    SIGNATURE = "signature"
    ANYBODY = "anybody"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a handler takes and answers."""

    answers: Mapping[int, type[BaseModel] | None]
    body: type[BaseModel] | None = None
    is_body_optional: bool = False
    query: type[BaseModel] | None = None
    auth: Auth = Auth.COURSE
    headers: Mapping[str, str] = field(default_factory=dict)  # names that a request may have, and what for
    refusals: frozenset[int] = frozenset()
    operation_id: str | None = None  # by default, module and name of the handler


class PageQuery(BaseModel):
    """Which page of a list is wanted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="items at most")
    after: str | None = Field(default=None, max_length=200, description="the `next` of the page before")


_KEY = "__broadway_operation__"

# Every operation may be refused for these reasons, besides its own.
_ALWAYS = {
    401: "the token is missing or wrong",
    503: "the store is away: try again after `Retry-After` seconds",
}
_WITH_BODY = (400, 408, 413)
_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_LOCATION = {"Location": {"description": "the path of what was made", "required": True, "schema": {"type": "string"}}}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "seconds after which it may be tried again",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_METHODS_OF_CHANGE = ("post", "put", "delete")


def operation(
    answer: type[BaseModel] | None,
    *,
    status: int = 200,
    also: Mapping[int, type[BaseModel] | None] | None = None,
    refusals: Iterable[int] = (),
    **rest: Any,
) -> Callable[[HandlerT], HandlerT]:
    """Say what a handler answers when all is well, with which ``status``; ``rest`` is as in Operation."""

    def describe(handler: HandlerT) -> HandlerT:
        setattr(handler, _KEY, Operation({status: answer, **(also or {})}, refusals=frozenset(refusals), **rest))
        return handler

    return describe


def answered(view: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A resource as a response."""
    return JSONResponse(view.model_dump(mode="json"), status, headers={**CORS, **(headers or {})})


def query_of(request: Request, expected: type[Query]) -> Query:
    """A request's query.

    Raises:
        InvalidBodyError: It is not as expected; the text names the parameter.
    """
    twice = [key for key in request.query_params if len(request.query_params.getlist(key)) > 1]
    if twice:
        raise InvalidBodyError(f"{twice[0]}: expected once")
    return check(dict(request.query_params), expected)


def openapi(handlers: Iterable[tuple[str, str, Callable[..., Any]]]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of handlers, each with its path and method; those that say nothing are left out."""
    described = [
        (path, method.lower(), handler, said)
        for path, method, handler in handlers
        if (said := getattr(handler, _KEY, None)) is not None
    ]
    names, schemas = _schemas([said for *_, said in described])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler, said in described:
        paths.setdefault(_template(path), {})[method] = _entry(path, method, handler, said, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Broadway",
            "version": __version__,
            "description": "Runs, jobs, attempts, assignments and webhooks of courses. Errors are RFC 9457 problems.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({_tag(path) for path, *_ in described})],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SECURITY},
    }


_SECURITY = {
    Auth.COURSE.value: {"type": "http", "scheme": "bearer", "description": "one of the course's tokens"},
    Auth.CLUSTER.value: {"type": "http", "scheme": "bearer", "description": "the token of graders and operators"},
    Auth.SIGNATURE.value: {
        "type": "apiKey",
        "in": "header",
        "name": "X-Hub-Signature-256",
        "description": "GitHub's signature of the body, or Standard Webhooks' in `webhook-signature`",
    },
}

_Names = Mapping[type[BaseModel], str]


def _schemas(operations: Iterable[Operation]) -> tuple[_Names, dict[str, Any]]:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problem, "serialization"): None}
    for said in operations:
        wanted |= {(model, "serialization"): None for model in said.answers.values() if model}
        if said.body:
            wanted[said.body, "validation"] = None
    references, document = models_json_schema(
        list(wanted), ref_template=SCHEMAS + "{model}", schema_generator=GenerateJsonSchema
    )
    names = {
        model: str(schema["$ref"]).removeprefix(SCHEMAS)
        for (model, _), schema in references.items()
        if isinstance(model, type) and issubclass(model, BaseModel)
    }
    return names, document.get("$defs", {})


def _entry(path: str, method: str, handler: Callable[..., Any], said: Operation, names: _Names) -> dict[str, Any]:
    summary, _, more = (handler.__doc__ or "").partition("\n")
    entry: dict[str, Any] = {
        "operationId": said.operation_id or _operation_id(handler),
        "summary": summary.rstrip("."),
        "tags": [_tag(path)],
        "parameters": [*_path_parameters(path), *_query_parameters(said), *_header_parameters(said)],
        "responses": {
            **{str(status): _response(status, model, names) for status, model in said.answers.items()},
            **{str(status): _refusal(status, why, names) for status, why in _refusals(path, said).items()},
        },
    }
    if more.strip():
        entry["description"] = " ".join(more.split())
    if said.auth is not Auth.ANYBODY:
        entry["security"] = [{said.auth.value: []}]
    if said.body and method in _METHODS_OF_CHANGE:
        entry["requestBody"] = {
            "required": not said.is_body_optional,
            "content": {"application/json": {"schema": {"$ref": SCHEMAS + names[said.body]}}},
        }
    return entry


def _response(status: int, model: type[BaseModel] | None, names: _Names) -> dict[str, Any]:
    told: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if model:
        told["content"] = {"application/json": {"schema": {"$ref": SCHEMAS + names[model]}}}
    if status == HTTPStatus.CREATED:
        told["headers"] = _LOCATION
    return told


def _refusal(status: int, why: str, names: _Names) -> dict[str, Any]:
    schema = {"$ref": SCHEMAS + names[Problem]}
    told: dict[str, Any] = {"description": why, "content": {"application/problem+json": {"schema": schema}}}
    if status in _LATER:
        told["headers"] = _RETRY_AFTER
    return told


def _refusals(path: str, said: Operation) -> dict[int, str]:
    reasons: dict[int, str] = {} if said.auth is Auth.ANYBODY else dict(_ALWAYS)
    for status in said.refusals:
        reasons[status] = HTTPStatus(status).phrase
    if said.body:
        reasons |= {status: HTTPStatus(status).phrase for status in _WITH_BODY}
    if said.query:
        reasons[400] = HTTPStatus.BAD_REQUEST.phrase
    if "{" in path:
        reasons[404] = HTTPStatus.NOT_FOUND.phrase
    return {status: why for status, why in sorted(reasons.items()) if status not in said.answers}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    pattern = "^[A-Za-z0-9_-]+$"
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
        for name in re.findall(r"\{(\w+)", path)
    ]


def _query_parameters(said: Operation) -> list[dict[str, Any]]:
    if said.query is None:
        return []
    schema = said.query.model_json_schema(ref_template=SCHEMAS + "{model}")
    return [
        {"name": name, "in": "query", "description": part.pop("description", ""), "schema": _inlined(part, schema)}
        for name, part in schema["properties"].items()
    ]


def _inlined(part: Any, schema: Mapping[str, Any]) -> Any:
    """A parameter's schema without references: what a query consists of is small."""
    if isinstance(part, dict):
        if "$ref" in part:
            return schema["$defs"][part["$ref"].removeprefix(SCHEMAS)]
        return {key: _inlined(value, schema) for key, value in part.items()}
    return [_inlined(each, schema) for each in part] if isinstance(part, list) else part


def _header_parameters(said: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "description": what, "schema": {"type": "string"}}
        for name, what in said.headers.items()
    ]


def _template(path: str) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def _tag(path: str) -> str:
    """The last noun of a path: what it is about."""
    nouns = [part for part in path.removeprefix("/api/v2/").split("/") if not part.startswith("{")]
    return nouns[-1] if nouns[-1] in _RESOURCES else nouns[-2]


_RESOURCES = frozenset(
    {
        "courses",
        "assignments",
        "runs",
        "jobs",
        "attempts",
        "log",
        "hooks",
        "deliveries",
        "roster",
        "graders",
        "dead-letters",
    }
)


def _operation_id(handler: Callable[..., Any]) -> str:
    module = handler.__module__.rpartition(".")[2]
    return f"{module}_{handler.__name__}"

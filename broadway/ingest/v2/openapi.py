"""Declarations of v2's operations, one beside each handler, and the OpenAPI document made of them."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broadway import __version__
from broadway.domain.json_bodies import InvalidBodyError, check
from broadway.ingest.http.answers import CORS
from broadway.ingest.http.rights import STAFF, Auth, Before, Load, takes
from broadway.messages.resources.base import MAX_PAGE, Problem

SCHEMAS = "#/components/schemas/"

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])
Query = TypeVar("Query", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Operation:
    """The requests that a handler takes, and its answers."""

    answers: Mapping[int, type[BaseModel] | None]
    body: type[BaseModel] | None = None
    is_body_optional: bool = False
    query: type[BaseModel] | None = None
    auth: tuple[Auth, ...] = STAFF
    headers: Mapping[str, str] = field(default_factory=dict)  # request headers, each with its description
    refusals: frozenset[int] = frozenset()
    operation_id: str | None = None  # the handler's module and name by default
    sends: str | None = None  # the media type of a body that is a file
    returns: tuple[str, ...] = ()  # the media types of answers that are files


class PageQuery(BaseModel):
    """The query of a list with pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="the highest number of items to return")
    after: str | None = Field(default=None, max_length=200, description="the `next` of the previous page")


_KEY = "__broadway_operation__"

# Reasons for which any operation may be refused, besides its own.
_ALWAYS = {
    401: "the token is missing or wrong",
    429: "too many requests, reads or wrong tokens: try again after `Retry-After` seconds",
    503: "the store is unavailable, or busy with other reads: try again after `Retry-After` seconds",
}
_WITH_BODY = (400, 408, 413, 415)
_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_LOCATION = {"Location": {"description": "path of the new resource", "required": True, "schema": {"type": "string"}}}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "seconds to wait before the next try",
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
    auth: Auth | tuple[Auth, ...] = STAFF,
    recent: bool = False,
    before: Before | None = None,
    load: Load = Load.SMALL,
    **rest: Any,
) -> Callable[[HandlerT], HandlerT]:
    """Declare a handler's answer to a valid request, and its ``status``; ``rest`` are fields of Operation.

    Any of the credentials in ``auth`` admits a request; ``recent``, ``before`` and ``load`` are those of ``Rights``.
    """
    some = auth if isinstance(auth, tuple) else (auth,)
    spec = Operation({status: answer, **(also or {})}, refusals=frozenset(refusals), auth=some, **rest)

    def describe(handler: HandlerT) -> HandlerT:
        setattr(handler, _KEY, spec)
        name = spec.operation_id or _operation_id(handler)
        return takes(*some, recent=recent, before=before, operation=name, load=load)(handler)

    return describe


def answered(view: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a resource as a response."""
    return JSONResponse(view.model_dump(mode="json"), status, headers={**CORS, **(headers or {})})


def query_of(request: Request, expected: type[Query]) -> Query:
    """Return a request's query. Only parameters that are tuples may be repeated.

    Raises:
        InvalidBodyError: A parameter is unknown, repeated or invalid; the text names it.
    """
    found: dict[str, Any] = dict(request.query_params)
    for key in found:
        values, field_of = request.query_params.getlist(key), expected.model_fields.get(key)
        if field_of is not None and get_origin(field_of.annotation) is tuple:
            found[key] = values
        elif len(values) > 1:
            raise InvalidBodyError(f"{key}: expected once")
    return check(found, expected)


def openapi(handlers: Iterable[tuple[str, str, Callable[..., Any]]]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of handlers, each with its path and method; undeclared ones are left out."""
    described = [
        (path, method.lower(), handler, spec)
        for path, method, handler in handlers
        if (spec := getattr(handler, _KEY, None)) is not None
    ]
    names, schemas = _schemas([spec for *_, spec in described])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler, spec in described:
        paths.setdefault(_template(path), {})[method] = _entry(path, method, handler, spec, names)
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
    Auth.QUERY.value: {
        "type": "http",
        "scheme": "bearer",
        "description": "a token of the course that may read states and positions only",
    },
    Auth.STUDENT.value: {"type": "http", "scheme": "bearer", "description": "a student's own token"},
    Auth.OPERATOR.value: {"type": "http", "scheme": "bearer", "description": "the operators' token"},
    Auth.JOIN.value: {
        "type": "http",
        "scheme": "bearer",
        "description": "a join token or the cluster token; after the first join, also the grader's own secret",
    },
    Auth.GRADER.value: {"type": "http", "scheme": "bearer", "description": "the grader's own secret"},
    Auth.METRICS.value: {
        "type": "http",
        "scheme": "bearer",
        "description": "the token for metrics (`--metrics-token`), for programs that watch and scale",
    },
    Auth.SIGNATURE.value: {
        "type": "apiKey",
        "in": "header",
        "name": "X-Hub-Signature-256",
        "description": "GitHub's signature of the body, or Standard Webhooks' in `webhook-signature`",
    },
}

_Names = Mapping[type[BaseModel], str]


def _schemas(operations: Iterable[Operation]) -> tuple[_Names, dict[str, Any]]:
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problem, "serialization"): None}
    for spec in operations:
        models |= {(model, "serialization"): None for model in spec.answers.values() if model}
        if spec.body:
            models[spec.body, "validation"] = None
    references, document = models_json_schema(
        list(models), ref_template=SCHEMAS + "{model}", schema_generator=GenerateJsonSchema
    )
    names = {
        model: str(schema["$ref"]).removeprefix(SCHEMAS)
        for (model, _), schema in references.items()
        if isinstance(model, type) and issubclass(model, BaseModel)
    }
    return names, document.get("$defs", {})


def _entry(path: str, method: str, handler: Callable[..., Any], spec: Operation, names: _Names) -> dict[str, Any]:
    summary, _, more = (handler.__doc__ or "").partition("\n")
    entry: dict[str, Any] = {
        "operationId": spec.operation_id or _operation_id(handler),
        "summary": summary.rstrip("."),
        "tags": [_tag(path)],
        "parameters": [*_path_parameters(path), *_query_parameters(spec), *_header_parameters(spec)],
        "responses": {
            **{str(status): _response(status, model, names, spec.returns) for status, model in spec.answers.items()},
            **{str(status): _refusal(status, why, names) for status, why in _refusals(path, spec).items()},
        },
    }
    if more.strip():
        entry["description"] = " ".join(more.split())
    if Auth.ANYBODY not in spec.auth:
        entry["security"] = [{auth.value: []} for auth in spec.auth]
    if spec.body and method in _METHODS_OF_CHANGE:
        entry["requestBody"] = {
            "required": not spec.is_body_optional,
            "content": {"application/json": {"schema": {"$ref": SCHEMAS + names[spec.body]}}},
        }
    elif spec.sends:
        entry["requestBody"] = {"required": True, "content": {spec.sends: {}}}
    return entry


def _response(status: int, model: type[BaseModel] | None, names: _Names, files: Iterable[str]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if model:
        content: dict[str, Any] = {"application/json": {"schema": {"$ref": SCHEMAS + names[model]}}}
        response["content"] = content | {media_type: {} for media_type in files}
    if status == HTTPStatus.CREATED:
        response["headers"] = _LOCATION
    return response


def _refusal(status: int, why: str, names: _Names) -> dict[str, Any]:
    schema = {"$ref": SCHEMAS + names[Problem]}
    response: dict[str, Any] = {"description": why, "content": {"application/problem+json": {"schema": schema}}}
    if status in _LATER:
        response["headers"] = _RETRY_AFTER
    return response


def _refusals(path: str, spec: Operation) -> dict[int, str]:
    reasons: dict[int, str] = {} if Auth.ANYBODY in spec.auth else dict(_ALWAYS)
    for status in spec.refusals:
        reasons[status] = HTTPStatus(status).phrase
    if spec.body:
        reasons |= {status: HTTPStatus(status).phrase for status in _WITH_BODY}
    if spec.query:
        reasons[400] = HTTPStatus.BAD_REQUEST.phrase
    if "{" in path:
        reasons[404] = HTTPStatus.NOT_FOUND.phrase
    return {status: why for status, why in sorted(reasons.items()) if status not in spec.answers}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    schemas = {"path": {"type": "string"}}  # of parameters with slashes
    plain = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.get(convertor, plain)}
        for name, convertor in re.findall(r"\{(\w+):?(\w*)\}", path)
    ]


def _query_parameters(spec: Operation) -> list[dict[str, Any]]:
    if spec.query is None:
        return []
    schema = spec.query.model_json_schema(ref_template=SCHEMAS + "{model}")
    return [
        {"name": name, "in": "query", "description": part.pop("description", ""), "schema": _inlined(part, schema)}
        for name, part in schema["properties"].items()
    ]


def _inlined(part: Any, schema: Mapping[str, Any]) -> Any:
    """Return a parameter's schema with its references replaced by the schemas themselves, which are small."""
    if isinstance(part, dict):
        if "$ref" in part:
            return schema["$defs"][part["$ref"].removeprefix(SCHEMAS)]
        return {key: _inlined(value, schema) for key, value in part.items()}
    return [_inlined(each, schema) for each in part] if isinstance(part, list) else part


def _header_parameters(spec: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
        for name, description in spec.headers.items()
    ]


def _template(path: str) -> str:
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def _tag(path: str) -> str:
    """Return the last resource in a path, which the operation is about."""
    nouns = [part for part in path.removeprefix("/api/v2/").split("/") if not part.startswith("{")]
    return nouns[-1] if nouns[-1] in _RESOURCES else nouns[-2]


_RESOURCES = frozenset(
    {
        "courses",
        "retention",
        "assignments",
        "runs",
        "jobs",
        "attempts",
        "log",
        "report",
        "files",
        "hooks",
        "callbacks",
        "deliveries",
        "roster",
        "settings",
        "submissions",
        "graders",
        "dead-letters",
        "tokens",
        "student-tokens",
        "student-links",
        "sign-in-links",
        "audit",
        "whoami",
        "join-tokens",
        "pools",
        "regrades",
    }
)


def _operation_id(handler: Callable[..., Any]) -> str:
    module = handler.__module__.rpartition(".")[2]
    return f"{module}_{handler.__name__}"

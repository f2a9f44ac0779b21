"""`/hooks`: webhooks of a course, and the endpoint for their deliveries."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.json_bodies import InvalidBodyError, parse, parse_part
from broadway.domain.webhook import (
    Delivery,
    DeliveryState,
    GitHubPush,
    Hook,
    HookConfig,
    HookFormat,
    Ignored,
    JsonSubmission,
    Message,
    Ping,
)
from broadway.ingest.commands.receive import Arrival
from broadway.ingest.commands.signatures import STANDARD, SignatureCheck, SignatureError
from broadway.ingest.http.answers import Refused, problem
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.bodies import LARGE, check_encoding, read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth
from broadway.ingest.http.scope import own_hook
from broadway.ingest.http.spool import spooled
from broadway.ingest.v2.openapi import answered, operation
from broadway.ingest.v2.views.hooks import delivery_view, hook_view
from broadway.messages.resources.base import Page
from broadway.messages.resources.hooks import DeliveryView, HookView, Pong

log = structlog.get_logger(__name__)

MAX_ID = 200  # characters

FORM = "application/x-www-form-urlencoded"  # GitHub's other content type
EVENT = "x-github-event"
DELIVERY = ("x-github-delivery", "x-gitea-delivery", "x-forgejo-delivery")

_STATUS = {
    DeliveryState.RECEIVED: 202,
    DeliveryState.ACCEPTED: 202,
    DeliveryState.UNMATCHED: 422,
    DeliveryState.REFUSED: 422,
    DeliveryState.LIMITED: 429,
}


@operation(
    DeliveryView,
    status=202,
    also={200: DeliveryView},
    body=JsonSubmission,
    auth=Auth.SIGNATURE,
    refusals=(401, 404, 422, 429),
    headers={
        "X-GitHub-Event": "`push` or `ping`",
        "X-GitHub-Delivery": "the delivery's id, the same for each redelivery",
        "X-Hub-Signature-256": "GitHub's signature of the body",
        "webhook-id": "Standard Webhooks: the delivery's id",
        "webhook-timestamp": "Standard Webhooks: seconds since 1970",
        "webhook-signature": "Standard Webhooks: `v1,` and the signature",
    },
)
async def deliver(request: Request, deps: Deps) -> Response:
    """Submit through a hook: a delivery of a git server or a front-end, signed with a secret of the hook.

    Hooks of format `github` take GitHub's push payload, hooks of format `json` the object below. 202: the delivery
    made a run, or will be decided soon. 200: there is nothing to do, or nothing more. 401: the signature is wrong, or
    there is no such hook.
    """
    course, name = request.path_params["course"], request.path_params["hook"]
    hook = await deps.receiver.hooks.recent(course, name)
    check_encoding(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        check = SignatureCheck(headers, (hook and hook.config.secrets) or (token_hex(16),))
        body = await _signed_body(request, deps, check)
    except SignatureError as error:
        log.warning("delivery not taken", hook=f"{course}/{name}"[:MAX_ID], reason=str(error), exists=hook is not None)
        raise Refused(401, str(error)) from error
    if hook is None:
        raise Refused(401, "invalid signature")  # no signature fits a random secret
    read_it = partial(_read, hook, body, headers)
    message, delivery_id = read_it() if len(body) < LARGE else await asyncio.to_thread(read_it)
    if isinstance(message, Ping):
        return answered(Pong())
    arrival = Arrival(hook, message, delivery_id, body, traceparent=request.state.traceparent)
    delivery, is_new = await deps.receiver.receive(arrival)
    return delivery_answer(delivery, is_new=is_new)


async def _signed_body(request: Request, deps: Deps, signature: SignatureCheck) -> bytes:
    """Return a delivery's body, which is on disk until its signature is checked.

    Raises:
        SignatureError: The signature is wrong.
    """
    async with spooled(request, deps.settings.http.spool_dir) as body:
        async for piece in body.arriving(limit=deps.settings.max_body_size):
            signature.update(piece)
        signature.finish()
        return await body.content()


async def _before(request: Request, deps: Deps) -> Any:
    """Return the present hook, or None."""
    hook = await deps.reads.hooks.one(course_of(request).id, request.path_params["hook"])
    return hook_view(hook).model_dump(mode="json") if hook else None


@operation(HookView, body=HookConfig, before=_before)
async def put(request: Request, deps: Deps) -> Response:
    """Create or replace a hook; two secrets may be valid at a time, for the rollout of a new one."""
    course = course_of(request)
    name = request.path_params["hook"]
    if len(name) > MAX_ID:
        raise Refused(400, f"hook: should have at most {MAX_ID} characters")
    hook = Hook(course.id, name, await read(request, HookConfig, limit=deps.settings.max_body_size))
    await deps.hook_settings.put(hook, course)
    return answered(hook_view(hook))


@operation(HookView)
async def show(request: Request, deps: Deps) -> Response:
    """Get a hook, without its secrets."""
    return answered(hook_view(await own_hook(request, deps)))


@operation(Page[HookView])
async def list_hooks(request: Request, deps: Deps) -> Response:
    """List a course's hooks, by name."""
    course = course_of(request)
    hooks = [hook_view(hook) for hook in await deps.reads.hooks.of_course(course.id)]
    return answered(Page[HookView](items=hooks, next=None))


@operation(None, status=204, before=_before)
async def delete(request: Request, deps: Deps) -> Response:
    """Remove a hook; its deliveries stay, and their runs go on."""
    hook = await own_hook(request, deps)
    await deps.hook_settings.delete(hook)
    return Response(status_code=204)


def _read(hook: Hook, body: bytes, headers: dict[str, str]) -> tuple[Message, str]:
    """Return the message in a delivery, and the delivery's id.

    Raises:
        InvalidBodyError: The hook does not take this type or shape of body, or the delivery has no usable id.
    """
    if headers.get("content-type", "").startswith(FORM):
        raise InvalidBodyError(f"content-type: expected application/json, not {FORM}")
    if hook.config.format is HookFormat.JSON:
        submission = parse(body, JsonSubmission, unique=True)
        if submission.assignment not in (None, hook.config.assignment):
            raise InvalidBodyError(f"assignment: this hook is for {hook.config.assignment}")
        return submission.read(), _id(headers) or submission.delivery_id
    event = headers.get(EVENT) or headers.get("x-gitea-event") or "push"
    if event == "ping":
        return Ping(), ""
    delivery_id = _id(headers)
    if delivery_id is None:
        raise InvalidBodyError(f"{DELIVERY[0]}: expected the delivery's id")
    if event != "push":
        return Ignored(f"{event} is no push"), delivery_id
    return parse_part(body, GitHubPush).read(), delivery_id


def _id(headers: dict[str, str]) -> str | None:
    """Return the delivery's id, or None; under Standard Webhooks only the signed ``webhook-id`` counts."""
    names = ("webhook-id",) if headers.get(STANDARD) else DELIVERY
    found = next((headers[name] for name in names if headers.get(name)), None)
    if found is not None and len(found) > MAX_ID:
        raise InvalidBodyError(f"the delivery's id: should have at most {MAX_ID} characters")
    return found


def delivery_answer(delivery: Delivery, *, is_new: bool) -> Response:
    """Answer a delivery with its decision; the answer to a temporary refusal has ``Retry-After``."""
    status = _STATUS.get(delivery.state, 200) if is_new or not delivery.is_final else 200
    if status >= 400:  # noqa: PLR2004 - a refusal
        answer = problem(status, delivery.reason)
        if delivery.retry_at:
            seconds = max(1, round((delivery.retry_at - datetime.now(UTC)).total_seconds() + 0.5))
            answer.headers["Retry-After"] = str(seconds)
        return answer
    return answered(delivery_view(delivery), status)

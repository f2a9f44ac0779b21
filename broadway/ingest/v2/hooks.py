"""`/hooks`: submissions by webhook, and what staff see and do about them."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.job import Phase
from broadway.domain.run import job_id
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
    Roster,
)
from broadway.ingest.commands.limits import check_env
from broadway.ingest.commands.signatures import STANDARD, SignatureError, check_signature
from broadway.ingest.http.answers import Refused, problem
from broadway.ingest.http.auth import authorize
from broadway.ingest.http.bodies import LARGE, InvalidBodyError, Nothing, parse, raw_body, read
from broadway.ingest.v2.openapi import Auth, PageQuery, answered, operation, query_of
from broadway.ingest.v2.views import (
    DeliveryDetail,
    DeliveryView,
    HookView,
    Page,
    Pong,
    delivery_detail,
    delivery_view,
    hook_view,
)
from broadway.mongo.runs import cursor

if TYPE_CHECKING:
    from broadway.ingest.app import Deps

log = structlog.get_logger(__name__)

ANSWER_WITHIN = 0.7  # seconds; what takes longer is finished after the answer
MAX_ID = 200  # characters

FORM = "application/x-www-form-urlencoded"  # which GitHub offers, too
EVENT = "x-github-event"
DELIVERY = ("x-github-delivery", "x-gitea-delivery", "x-forgejo-delivery")
HOOK_NOT_FOUND = "this course has no such hook"
DELIVERY_NOT_FOUND = "this hook has received no such delivery"

_STATUS = {
    DeliveryState.RECEIVED: 202,
    DeliveryState.ACCEPTED: 202,
    DeliveryState.UNMATCHED: 422,
    DeliveryState.REFUSED: 422,
    DeliveryState.LIMITED: 429,
}


class DeliveryQuery(PageQuery):
    """Which deliveries of a hook are wanted."""

    state: DeliveryState | None = Field(default=None, description="only those that have become this")


@operation(
    DeliveryView,
    status=202,
    also={200: DeliveryView},
    body=JsonSubmission,
    auth=Auth.SIGNATURE,
    refusals=(401, 404, 422, 429),
    headers={
        "X-GitHub-Event": "`push` or `ping`",
        "X-GitHub-Delivery": "the delivery's id, the same whenever it comes again",
        "X-Hub-Signature-256": "GitHub's signature of the body",
        "webhook-id": "Standard Webhooks: the delivery's id",
        "webhook-timestamp": "Standard Webhooks: seconds since 1970",
        "webhook-signature": "Standard Webhooks: `v1,` and the signature",
    },
)
async def deliver(request: Request, deps: "Deps") -> Response:
    """Take a submission from a front-end or a git server, signed with a secret of the hook.

    GitHub's push payload for hooks of format `github`, the object below for those of format `json`. 202: a run was
    made, or will be. 200: there was nothing to do, or nothing more.
    """
    hook = await deps.store.hooks.recent(request.path_params["course"], request.path_params["hook"])
    if hook is None:
        raise Refused(404, HOOK_NOT_FOUND)
    body = await raw_body(request, limit=deps.settings.max_body_size)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        check_signature(body, headers, hook.config.secrets)
    except SignatureError as error:
        log.warning("delivery not taken", hook=f"{hook.course}/{hook.name}", reason=str(error))
        raise Refused(401, str(error)) from error
    read_it = partial(_read, hook, body, headers)
    message, delivery_id = read_it() if len(body) < LARGE else await asyncio.to_thread(read_it)
    if isinstance(message, Ping):
        return answered(Pong())
    delivery, is_new = await deps.receiver.keep(
        hook, message, delivery_id=delivery_id, body=body, traceparent=request.state.traceparent
    )
    return _answer(await _decided(delivery, deps), is_new=is_new)


@operation(HookView, body=HookConfig)
async def put(request: Request, deps: "Deps") -> Response:
    """Make or change a hook. Two secrets may be valid at a time, so that a new one can be rolled out."""
    course = await authorize(request, deps.store.courses)
    name = request.path_params["hook"]
    if len(name) > MAX_ID:
        raise Refused(400, f"hook: should have at most {MAX_ID} characters")
    hook = Hook(course.id, name, await read(request, HookConfig, limit=deps.settings.max_body_size))
    await deps.store.hooks.put(hook)
    return answered(hook_view(hook))


@operation(HookView)
async def show(request: Request, deps: "Deps") -> Response:
    """A hook, without its secrets."""
    return answered(hook_view(await _own_hook(request, deps)))


@operation(Page[HookView])
async def list_hooks(request: Request, deps: "Deps") -> Response:
    """A course's hooks, by name."""
    course = await authorize(request, deps.store.courses)
    hooks = [hook_view(hook) for hook in await deps.store.hooks.of_course(course.id)]
    return answered(Page[HookView](items=hooks, next=None))


@operation(None, status=204)
async def delete(request: Request, deps: "Deps") -> Response:
    """Remove a hook. What it has received stays, and its runs go on."""
    hook = await _own_hook(request, deps)
    await deps.store.hooks.delete(hook.course, hook.name)
    return Response(status_code=204)


@operation(Roster, body=Roster)
async def put_roster(request: Request, deps: "Deps") -> Response:
    """Replace an assignment's roster: each student's environment, and the repository that it pushes to."""
    course = await authorize(request, deps.store.courses)
    roster = await read(request, Roster, limit=deps.settings.max_body_size)
    for index, entry in enumerate(roster.students):
        check_env(f"students.{index}.env", entry.env)
    await deps.store.rosters.put(course.id, request.path_params["assignment"], roster)
    return answered(roster)


@operation(Roster)
async def show_roster(request: Request, deps: "Deps") -> Response:
    """An assignment's roster."""
    course = await authorize(request, deps.store.courses)
    roster = await deps.store.rosters.get(course.id, request.path_params["assignment"])
    if roster is None:
        raise Refused(404, "this assignment has no roster")
    return answered(roster)


@operation(Page[DeliveryView], query=DeliveryQuery)
async def list_deliveries(request: Request, deps: "Deps") -> Response:
    """What a hook has received, latest first."""
    hook = await _own_hook(request, deps)
    wanted = query_of(request, DeliveryQuery)
    found = await deps.store.deliveries.of_hook(
        hook.course, hook.name, before=wanted.after, limit=wanted.limit + 1, state=wanted.state
    )
    page = found[: wanted.limit]
    more = cursor(page[-1].received_at, page[-1].id) if len(found) > len(page) else None
    return answered(Page[DeliveryView](items=[delivery_view(each, _job_of(each)) for each in page], next=more))


@operation(DeliveryDetail)
async def show_delivery(request: Request, deps: "Deps") -> Response:
    """A delivery, with what it said."""
    delivery = await _own_delivery(request, deps)
    return answered(delivery_detail(delivery, _job_of(delivery)))


@operation(DeliveryView, also={202: DeliveryView}, body=Nothing, is_body_optional=True, refusals=(422, 429))
async def redeliver(request: Request, deps: "Deps") -> Response:
    """Decide a delivery anew that came to nothing, such as after the roster was put right. It keeps its first time."""
    delivery = await _own_delivery(request, deps)
    await read(request, Nothing, limit=deps.settings.max_body_size, optional=True)
    delivery, is_new = await deps.receiver.reopen(delivery)
    return _answer(await _decided(delivery, deps), is_new=is_new)


def _read(hook: Hook, body: bytes, headers: dict[str, str]) -> tuple[Message, str]:
    """What a delivery says, and its id.

    Raises:
        InvalidBodyError: It is not what the hook takes.
    """
    if headers.get("content-type", "").startswith(FORM):
        raise InvalidBodyError(f"content-type: expected application/json, not {FORM}")
    if hook.config.format is HookFormat.JSON:
        submission = parse(body, JsonSubmission)
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
    return parse(body, GitHubPush).read(), delivery_id


def _id(headers: dict[str, str]) -> str | None:
    """The delivery's id: of what was signed, if that says it."""
    names = ("webhook-id",) if headers.get(STANDARD) else DELIVERY
    found = next((headers[name] for name in names if headers.get(name)), None)
    if found is not None and len(found) > MAX_ID:
        raise InvalidBodyError(f"the delivery's id: should have at most {MAX_ID} characters")
    return found


async def _decided(delivery: Delivery, deps: "Deps") -> Delivery:
    """A delivery as it is decided, if that does not take long. It is stored, so nothing that happens here loses it."""
    deciding = asyncio.create_task(deps.receiver.decide_if_possible(delivery))
    done, _ = await asyncio.wait({deciding}, timeout=ANSWER_WITHIN)
    if not done:
        deps.later(_finish(deciding))
        return delivery
    return deciding.result() or delivery


async def _finish(deciding: asyncio.Task[Delivery | None]) -> None:
    await deciding


def _answer(delivery: Delivery, *, is_new: bool) -> Response:
    status = _STATUS.get(delivery.state, 200) if is_new or not delivery.is_final else 200
    if status >= 400:  # noqa: PLR2004 - a refusal
        answer = problem(status, delivery.reason)
        if delivery.retry_at:
            seconds = max(1, round((delivery.retry_at - datetime.now(UTC)).total_seconds() + 0.5))
            answer.headers["Retry-After"] = str(seconds)
        return answer
    return answered(delivery_view(delivery, _job_of(delivery)), status)


def _job_of(delivery: Delivery) -> str | None:
    return job_id(delivery.run_id, Phase.STUDENTS, 0) if delivery.run_id else None


async def _own_hook(request: Request, deps: "Deps") -> Hook:
    course = await authorize(request, deps.store.courses)
    hook = await deps.store.hooks.get(course.id, request.path_params["hook"])
    if hook is None:
        raise Refused(404, HOOK_NOT_FOUND)
    return hook


async def _own_delivery(request: Request, deps: "Deps") -> Delivery:
    course = await authorize(request, deps.store.courses)
    delivery = await deps.store.deliveries.get(request.path_params["delivery"])
    if delivery is None or (delivery.course, delivery.hook) != (course.id, request.path_params["hook"]):
        raise Refused(404, DELIVERY_NOT_FOUND)
    return delivery

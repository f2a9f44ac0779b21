"""`/ui/c/…/connections`: hooks and endpoints for callbacks with their deliveries, which can be repeated."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.callback import KEPT_DAYS
from broadway.domain.callback_delivery import CallbackState, Endpoint
from broadway.domain.callback_delivery import Delivery as Sent
from broadway.domain.status_line import StatusLine, Tone
from broadway.domain.webhook import DeliveryState
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, nothing, takes
from broadway.ingest.http.scope import own_delivery, own_hook
from broadway.ingest.ui.beside import actions_on
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected
from broadway.ingest.ui.forms import form_of, number_in
from broadway.ingest.ui.lists import slice_after, wanted_state
from broadway.ingest.ui.templating import page
from broadway.runtime.clock import now

ROWS = 50  # on one page
SLACK = timedelta(minutes=1)  # between this moment and the check of the oldest time
RECEIVED = {
    DeliveryState.RECEIVED: StatusLine(Tone.WAITING, "not decided yet"),
    DeliveryState.ACCEPTED: StatusLine(Tone.GOOD, "accepted"),
    DeliveryState.DUPLICATE: StatusLine(Tone.NEUTRAL, "duplicate"),
    DeliveryState.SUPERSEDED: StatusLine(Tone.NEUTRAL, "superseded"),
    DeliveryState.IGNORED: StatusLine(Tone.NEUTRAL, "ignored"),
    DeliveryState.UNMATCHED: StatusLine(Tone.OURS, "fits no student"),
    DeliveryState.LIMITED: StatusLine(Tone.STUDENT, "over the limit"),
    DeliveryState.REFUSED: StatusLine(Tone.STUDENT, "refused"),
}
SENT = {
    CallbackState.PENDING: StatusLine(Tone.WAITING, "pending"),
    CallbackState.DELIVERED: StatusLine(Tone.GOOD, "delivered"),
    CallbackState.FAILED: StatusLine(Tone.OURS, "failed"),
    CallbackState.MISSED: StatusLine(Tone.NEUTRAL, "missed"),
}


@dataclass(frozen=True, slots=True)
class ShownEndpoint:
    """An endpoint with its host: the rest of its address may be a secret."""

    endpoint: Endpoint

    @property
    def host(self) -> str:
        """The host of its address."""
        return urlsplit(self.endpoint.url).hostname or ""

    @property
    def status(self) -> StatusLine:
        """Its state."""
        if self.endpoint.disabled is not None:
            return StatusLine(Tone.NEUTRAL, "disabled", self.endpoint.disabled)
        if self.endpoint.failing_since:
            return StatusLine(Tone.OURS, "failing")
        return StatusLine(Tone.GOOD, "enabled")


@takes(Auth.COURSE)
async def show(request: Request, deps: Deps) -> Response:
    """Show the hooks and the endpoints for callbacks of a course."""
    course = course_of(request).id
    endpoints = [ShownEndpoint(each) for each in await deps.reads.callbacks.of_course(course)]
    hooks = await deps.reads.hooks.of_course(course)
    return page(request, "connections.html", course=course, hooks=hooks, endpoints=endpoints)


@takes(Auth.COURSE)
async def show_hook(request: Request, deps: Deps) -> Response:
    """Show what a hook has received, latest first."""
    hook = await own_hook(request, deps)
    state, reads = wanted_state(request, DeliveryState), deps.reads.hooks
    found = await slice_after(
        request.query_params.get("after"), lambda after: reads.latest(hook, after=after, limit=ROWS, state=state)
    )
    shown = [(each, RECEIVED[each.state]) for each in found.items]
    return page(
        request,
        "hook.html",
        course=hook.course,
        hook=hook,
        shown=shown,
        next=found.next,
        state=state,
        words=RECEIVED,
        actions=await actions_on(deps, hook.course, "hook", hook.name),
    )


async def _before_delivery(request: Request, deps: Deps) -> Any:
    """Return the present decision."""
    found = await own_delivery(request, deps)
    return {"id": found.id, "state": found.state, "run": found.run_id, "reason": found.reason}


@takes(Auth.COURSE, before=_before_delivery, operation="ui.redeliver")
async def redeliver(request: Request, deps: Deps) -> Response:
    """Decide a delivery again that made no run."""
    delivery = await own_delivery(request, deps)
    await form_of(request)
    await deps.receiver.receive_again(delivery)
    return redirected(f"/ui/c/{delivery.course}/hooks/{delivery.hook}")


async def _own_endpoint(request: Request, deps: Deps) -> Endpoint:
    found = await deps.reads.callbacks.one(course_of(request).id, request.path_params["callback"])
    if found is None:
        raise Refused(404, NOTHING_HERE)
    return found


@takes(Auth.COURSE)
async def show_callback(request: Request, deps: Deps) -> Response:
    """Show the deliveries to an endpoint, latest first."""
    endpoint = await _own_endpoint(request, deps)
    state, reads = wanted_state(request, CallbackState), deps.reads.callbacks
    found = await slice_after(
        request.query_params.get("after"), lambda after: reads.latest(endpoint, after=after, limit=ROWS, state=state)
    )
    return page(
        request,
        "callback.html",
        course=endpoint.course,
        view=ShownEndpoint(endpoint),
        shown=[(each, SENT[each.state]) for each in found.items],
        next=found.next,
        state=state,
        words=SENT,
        days=KEPT_DAYS,
        actions=await actions_on(deps, endpoint.course, "callback", endpoint.name),
    )


@takes(Auth.COURSE, before=nothing, operation="ui.pingCallback")
async def ping(request: Request, deps: Deps) -> Response:
    """Send a test event to an endpoint."""
    endpoint = await _own_endpoint(request, deps)
    await form_of(request)
    await deps.callbacks.ping(endpoint)
    return _back(endpoint)


async def _before_all(request: Request, deps: Deps) -> Any:
    """Return the state of the endpoint."""
    endpoint = await _own_endpoint(request, deps)
    return {"name": endpoint.name, "disabled": endpoint.disabled, "failing_since": endpoint.failing_since}


@takes(Auth.COURSE, before=_before_all, operation="ui.replayCallbacks")
async def replay_failed(request: Request, deps: Deps) -> Response:
    """Send all failed and missed deliveries of some days again; a repetition finds no further one."""
    endpoint, form = await _own_endpoint(request, deps), await form_of(request)
    days = number_in(form.get("days", "").strip() or str(KEPT_DAYS))
    if days is None or not 1 <= days <= KEPT_DAYS:
        raise Refused(422, f"days: expected a number from 1 to {KEPT_DAYS}, for which events are kept")
    await deps.callbacks.replay_since(endpoint, now() - timedelta(days=days) + SLACK)
    return redirected(f"/ui/c/{endpoint.course}/callbacks/{endpoint.name}?state=pending")


async def _own_sent(request: Request, deps: Deps) -> tuple[Endpoint, Sent]:
    endpoint = await _own_endpoint(request, deps)
    delivery = await deps.reads.callbacks.delivery(endpoint, request.path_params["delivery"])
    if delivery is None:
        raise Refused(404, NOTHING_HERE)
    return endpoint, delivery


async def _before_replay(request: Request, deps: Deps) -> Any:
    """Return the present delivery."""
    _, delivery = await _own_sent(request, deps)
    return {"id": delivery.id, "type": delivery.type, "state": delivery.state, "attempt": delivery.attempt}


@takes(Auth.COURSE, before=_before_replay, operation="ui.replayCallback")
async def replay(request: Request, deps: Deps) -> Response:
    """Send a delivery again, at once and with a new schedule."""
    endpoint, delivery = await _own_sent(request, deps)
    await form_of(request)
    await deps.callbacks.replay(endpoint, delivery)
    return _back(endpoint)


def _back(endpoint: Endpoint) -> Response:
    return redirected(f"/ui/c/{endpoint.course}/callbacks/{endpoint.name}")

"""`/ui/ops`: pools, graders and dead letters, for operators."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.grader import MAX_SLOTS, GraderMode
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, takes
from broadway.ingest.ui.beside import actions_on
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected
from broadway.ingest.ui.forms import form_of
from broadway.ingest.ui.live import Parts, Stream
from broadway.ingest.ui.templating import page, rendered

PAUSE = 2.0  # seconds between two looks
MAX_REASON = 300  # characters
_MODES = {"pause": GraderMode.PAUSED, "drain": GraderMode.DRAINING, "resume": GraderMode.ONLINE}


async def _values(deps: Deps) -> dict[str, Any]:
    parts = {part: deps.health.reason(part) for part in ("store", "broker") if deps.health.is_unavailable(part)}
    return {"now_": await deps.reads.operations.now(), "problems": parts}


@takes(Auth.OPERATOR)
async def show(request: Request, deps: Deps) -> Response:
    """Show the state of the deployment."""
    actions = await actions_on(deps, None, "graders")
    return page(request, "ops.html", actions=actions, **await _values(deps))


@takes(Auth.OPERATOR)
async def live(request: Request, deps: Deps) -> Response:
    """Stream the state of the deployment."""

    async def parts() -> AsyncGenerator[Parts]:
        while True:
            async with deps.shares.turn(Load.SMALL):
                values = await _values(deps)
            yield Parts({"ops": rendered("_ops.html", **values)})
            await asyncio.sleep(PAUSE)

    return Stream(request, deps, parts)


async def _grader(request: Request, deps: Deps) -> Any:
    """Return the present state of the grader."""
    found = await deps.reads.graders.one(request.path_params["grader"])
    if found is None:
        raise Refused(404, NOTHING_HERE)
    return {"id": found.id, "state": found.state.value, "wanted": found.order.mode.value, "slots": found.allowed_slots}


@takes(Auth.OPERATOR, before=_grader, operation="ui.orderGrader")
async def order(request: Request, deps: Deps) -> Response:
    """Pause, drain or resume a grader, or set its slots."""
    form, grader, wanted = await form_of(request), request.path_params["grader"], request.path_params["order"]
    if wanted == "slots":
        await deps.grader_orders.set_slots(grader, _slots(form.get("slots", "")))
    elif wanted in _MODES:
        await deps.grader_orders.set_mode(grader, _MODES[wanted], form.get("reason", "")[:MAX_REASON])
    else:
        raise Refused(404, NOTHING_HERE)
    return redirected("/ui/ops")


def _slots(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:6]) <= MAX_SLOTS:
        raise Refused(422, f"slots: expected a number from 1 to {MAX_SLOTS}")
    return int(text)


async def _letter(request: Request, deps: Deps) -> Any:
    """Return the dead letter without its body, which may hold secrets."""
    found = next((each for each in (await deps.reads.operations.now()).letters if each.id == _letter_id(request)), None)
    return {"id": found.id, "queue": found.queue, "subject": found.subject, "reason": found.reason} if found else None


def _letter_id(request: Request) -> str:
    identity: str = request.path_params["letter"]
    return identity


@takes(Auth.OPERATOR, before=_letter, operation="ui.discardLetter")
async def discard(request: Request, deps: Deps) -> Response:
    """Discard a dead letter, after the page has asked again."""
    form = await form_of(request)
    if form.get("sure") != "yes":
        raise Refused(422, "tick the box beside the button to discard the dead letter")
    if not await deps.store.dead_letters.discard(_letter_id(request)):
        raise Refused(404, "no dead letter of that id is kept")
    return redirected("/ui/ops")

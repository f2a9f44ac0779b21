"""The original's HTTP protocol for graders: register, heartbeat, poll, report."""

import asyncio
import re
from collections.abc import Awaitable
from typing import TypeVar

import structlog
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.abilities import MAX_ABILITIES
from broadway.domain.grader import Grader
from broadway.ingest.gateway.handouts import Handout
from broadway.ingest.gateway.results import UnwantedResultError
from broadway.ingest.http.answers import CORS, Refused, success
from broadway.ingest.http.auth import grader_of
from broadway.ingest.http.bodies import read
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.endpoint import handles_outages
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.http.scope import attached_grader
from broadway.ingest.http.visit import until_gone
from broadway.messages.http import NO_JOB, OUR_AGENT, JobResult, Registration
from broadway.ports import PublishError, StoreError
from broadway.runtime.cancellation import end

log = structlog.get_logger(__name__)

PENDING_WAIT = 3.0  # seconds that a poll waits for a job while one is on its way to the graders
LONGEST_WAIT = 30.0  # seconds that a poll may ask to wait for a job
RESULT_LIMIT = 100 * 1024 * 1024  # bytes, the original's

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d+)")  # RFC 7240
_ABILITY = re.compile(r"[A-Za-z0-9_ -]{1,100}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")

Answer = TypeVar("Answer")


@takes(Auth.GRADER)
async def register(request: Request, deps: Deps) -> Response:
    """Register a grader; return its heartbeat interval."""
    grader_id = checked_id(request.path_params["worker_id"])
    known = grader_of(request)
    body = await read(request, Registration, limit=deps.settings.max_body_size)
    if known is not None:
        known.demand_admitted()
    pool = pool_of(request.query_params.get("pool"), deps)
    await deps.admission.demand_pool(known, pool)
    grader = await deps.gateway.sessions.register(
        grader_id,
        hostname=body.hostname,
        pool=pool,
        over_socket=False,
        extended=is_ours(request.headers.get("user-agent")),
        runtime=runtime_of(request.query_params.get("runtime")),
        abilities=abilities_of(request.query_params.get("abilities")),
    )
    if grader is None:
        raise Refused(400, f"worker id '{grader_id}' already exists")
    return success({"heartbeat": deps.settings.heartbeat_interval})


@takes(Auth.GRADER)
@handles_outages
async def heartbeat(request: Request, deps: Deps) -> Response:
    """Record a grader's heartbeat.

    While the store is unavailable, the answer is still 200: the original's graders end at any refusal.
    """
    try:
        await deps.gateway.sessions.beat(await attached_grader(request, deps))
    except StoreError as error:
        log.warning("heartbeat not stored", grader=request.path_params["worker_id"], reason=str(error))
    return Response(headers=CORS, media_type="application/json")


@takes(Auth.GRADER)
@handles_outages
async def poll(request: Request, deps: Deps) -> Response:
    """Return the next job, or 498. With ``Prefer: wait=N``, wait up to N seconds for a job."""
    try:
        grader = await attached_grader(request, deps)
        wait = _wait(request.headers.get("prefer", ""))
        handout = await _unless_gone(request, deps.gateway.handouts.poll(grader, wait=wait, patience=PENDING_WAIT))
    except (StoreError, PublishError) as error:
        # The original's graders end at any other answer.
        log.warning("no job for a poll", grader=request.path_params["worker_id"], reason=str(error))
        handout = None
    if handout is None:
        raise Refused(NO_JOB, "no jobs available")
    await _hand_over(request, deps, grader, handout)
    return success(handout.message)


@takes(Auth.GRADER)
async def report(request: Request, deps: Deps) -> Response:
    """Store a result: the answer comes once the job, its log and the run's next step are stored."""
    grader = await attached_grader(request, deps)
    result = await read(request, JobResult, limit=max(deps.settings.max_body_size, RESULT_LIMIT))
    try:
        await deps.gateway.results.report(grader, result)
    except UnwantedResultError as error:
        raise Refused(400, str(error)) from error
    return success()


def pool_of(name: str | None, deps: Deps) -> str:
    """Return the pool that a grader names, or the default pool of the gateway if it names no pool.

    Raises:
        Refused: 400, the name is not a valid pool name.
    """
    if name is None:
        name = deps.settings.gateway_pool
    return _checked("pool", name)


def runtime_of(name: str | None) -> str:
    """Return the runtime that a grader names, or an empty text if it names no runtime.

    Raises:
        Refused: 400, the name is not a valid runtime name.
    """
    return "" if name is None else _checked("runtime", name)


def abilities_of(names: str | None) -> list[str]:
    """Return the abilities that a grader names, separated by commas.

    Raises:
        Refused: 400, one of them is not a valid name.
    """
    if not names:
        return []
    found = names.split(",", MAX_ABILITIES)[:MAX_ABILITIES]
    if not all(_ABILITY.fullmatch(name) for name in found):
        raise Refused(400, "abilities: letters, digits, blanks, dashes and underscores, 100 at most")
    return found


def checked_id(grader_id: str) -> str:
    """Return a grader's id.

    Raises:
        Refused: 400, it is longer than a grader's id may be.
    """
    return _checked("worker id", grader_id)


def _checked(key: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refused(400, f"{key}: letters, digits, dashes and underscores, 100 at most")
    return name


def is_ours(user_agent: str | None) -> bool:
    """Return whether a grader is one of this project's, which understand our additions to the protocol."""
    return (user_agent or "").startswith(OUR_AGENT)


def _wait(preference: str) -> float:
    found = _WAIT.search(preference)
    return min(LONGEST_WAIT, float(found[1])) if found else 0.0


async def _unless_gone(request: Request, waiting: Awaitable[Answer]) -> Answer | None:
    """Return an awaitable's result, or None if the client disconnects first."""
    task, gone = asyncio.ensure_future(waiting), asyncio.create_task(until_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await end(*(each for each in (task, gone) if isinstance(each, asyncio.Task)))


async def _hand_over(request: Request, deps: Deps, grader: Grader, handout: Handout) -> None:
    """Put the job back if its client has disconnected: the store has it as started, but no grader runs it."""
    if await request.is_disconnected():
        await deps.gateway.handouts.put_back(grader, handout)

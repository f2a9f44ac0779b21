"""The original's WebSocket protocol for graders: one connection per grader, one job at a time, pings as heartbeats."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from broadway.domain.grader import Grader, RevokedError
from broadway.domain.json_bodies import InvalidBodyError, check, parse
from broadway.ingest.commands.admission import Admission, AdmissionError, CredentialError
from broadway.ingest.gateway.gateway import Gateway
from broadway.ingest.gateway.handouts import Handout
from broadway.ingest.gateway.results import UnwantedResultError
from broadway.ingest.http.answers import CORS, Refused
from broadway.ingest.http.auth import parse_bearer
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, takes
from broadway.ingest.http.visit import visit_of
from broadway.ingest.http.websocket import NO_CODE, PINGS
from broadway.ingest.v1.polling import abilities_of, checked_id, is_ours, pool_of, runtime_of
from broadway.messages.http import IDENTITY_HEADER, INTERVAL_HEADER, JobResult, SocketMessage, SocketRegistration
from broadway.ports import PublishError, StoreError
from broadway.runtime.cancellation import heeded
from broadway.service import background

log = structlog.get_logger(__name__)

Problem = TypeVar("Problem", bound=BaseException)

POLICY_VIOLATION, PROTOCOL_ERROR, INTERNAL_ERROR, GOING_AWAY = 1008, 1002, 1011, 1001
GOODBYES = (1000, 1001)
MAX_REASON = 123  # bytes of a close frame's reason

SEND_TIMEOUT = 10.0  # seconds without reading after which a grader is disconnected
REGISTER_WITHIN = 300.0  # seconds
PAUSE = 1.0  # seconds before the next try while the broker or the store is unavailable
STORE_TRIES = 10  # for one result


@takes(Auth.ANYBODY)
async def explain(_: Request, __: Deps) -> Response:
    """Answer plain HTTP as the original does."""
    return PlainTextResponse('Can "Upgrade" only to "WebSocket".', 400, headers=CORS)


async def attend(websocket: WebSocket, deps: Deps) -> None:
    """Serve one grader's connection until it ends."""
    structlog.contextvars.bind_contextvars(grader=websocket.path_params["worker_id"])
    if not _is_same_origin(websocket):
        await websocket.close()  # before it is accepted: 403
        return
    interval = str(deps.settings.heartbeat_interval).encode()
    await websocket.accept(headers=[(INTERVAL_HEADER.encode(), interval)])
    with contextlib.suppress(WebSocketDisconnect):
        if refusal := await _refusal(websocket, deps):
            code, reason = refusal
            await websocket.close(code, _shorten(reason))
            return
        await _Connection(websocket, deps.gateway, deps).serve()


def _is_same_origin(websocket: WebSocket) -> bool:
    origin = websocket.headers.get("origin")
    return origin is None or origin.partition("://")[2] == websocket.headers.get("host")


async def _refusal(websocket: WebSocket, deps: Deps) -> tuple[int, str] | None:
    """Return the code and reason with which to close a connection at once, or None."""
    try:
        token = parse_bearer(websocket.headers.get("authorization", ""))
        checked_id(websocket.path_params["worker_id"])
        pool = pool_of(websocket.query_params.get("pool"), deps)
        runtime_of(websocket.query_params.get("runtime"))
        abilities_of(websocket.query_params.get("abilities"))
        await _admit(websocket, token, pool, deps.admission)
    except (Refused, CredentialError, AdmissionError, RevokedError) as error:
        return POLICY_VIOLATION, str(error)
    except StoreError as error:
        log.warning("grader not admitted yet", reason=str(error))
        return INTERNAL_ERROR, "internal error"
    visit_of(websocket).note_valid()
    return None


async def _admit(websocket: WebSocket, token: str, pool: str, admission: Admission) -> None:
    """Admit a grader that sends its own secret as at a join, any other one by its token alone."""
    grader_id, secret = websocket.path_params["worker_id"], websocket.headers.get(IDENTITY_HEADER)
    if secret:
        await admission.admit(await admission.recognize(grader_id, bearer=token, secret=secret), pool)
    else:
        await admission.demand_pool(await admission.authenticate(grader_id, token), pool)


class _Closing(Exception):  # noqa: N818 - a decision, not an error
    """An order to close the connection; code 0 means that it is already closed.

    ``keeps_job``: the grader may reconnect and report its running job. ``is_goodbye``: it closed the connection in
    good order.
    """

    def __init__(self, code: int, reason: str = "", *, keeps_job: bool = False, is_goodbye: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.keeps_job = keeps_job
        self.is_goodbye = is_goodbye


@dataclass(slots=True)
class _Connection:
    websocket: WebSocket
    gateway: Gateway
    deps: Deps
    grader: Grader | None = None
    current: Handout | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)  # set while its operator lets it take jobs
    pinged: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def grader_id(self) -> str:
        grader_id: str = self.websocket.path_params["worker_id"]
        return grader_id

    async def serve(self) -> None:
        """Serve the grader until either side closes, or the grader goes silent."""
        self.websocket.scope["extensions"][PINGS](self.pinged.set)
        closing = _Closing(0)
        try:
            await self._converse()
        except* _Closing as group:
            closing = _first(group)
        except* WebSocketDisconnect as group:
            closing = _Closing(0, is_goodbye=_first(group).code in GOODBYES)
        except* Exception:  # after any fault the grader gets a close frame and can reconnect
            log.exception("connection broke", grader=self.grader_id)
            closing = _Closing(INTERNAL_ERROR, "internal error", keeps_job=True)
        finally:
            await self._part(closing)

    async def _converse(self) -> None:
        async with background(self._watch(), self._feed(), self._listen()):
            await asyncio.Event().wait()

    async def _part(self, closing: _Closing) -> None:
        """Send the close frame if needed, and end the grader's session: suspend it, let it leave, or mark it dead."""
        if closing.code:
            # The connection may be closed already.
            with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
                async with asyncio.timeout(SEND_TIMEOUT):
                    await self.websocket.close(closing.code, _shorten(str(closing)))
        if self.grader is None:
            return
        try:
            if self.deps.is_stopping or closing.keeps_job:
                await self.gateway.sessions.suspend(self.grader)
            elif closing.is_goodbye and self.grader.extended:  # a grader of the original is dead after any close
                await self.gateway.sessions.leave(self.grader)
            else:
                await self.gateway.sessions.end(self.grader)
        except StoreError as error:  # the leases of its jobs will expire
            log.warning("end of a connection not stored", grader=self.grader_id, reason=str(error))

    async def _watch(self) -> None:
        """Record pings as heartbeats; close the connection if they stop, or if the grader does not register in time."""
        while True:
            limit = self.gateway.sessions.patience.total_seconds() if self.grader else REGISTER_WITHIN
            try:
                async with asyncio.timeout(limit):
                    await self.pinged.wait()
            except TimeoutError:
                raise _Closing(NO_CODE) from None
            self.pinged.clear()
            if self.grader:
                with heeded():
                    await self._beat(self.grader)

    async def _beat(self, grader: Grader) -> None:
        try:
            await self.gateway.sessions.beat(grader)
            known = await self.gateway.sessions.admitted(grader.id)
            await self.deps.admission.demand_pool(known, grader.pool)
        except StoreError as error:
            log.warning("heartbeat not stored", grader=grader.id, reason=str(error))
            return
        except (RevokedError, AdmissionError) as error:
            raise _Closing(POLICY_VIOLATION, str(error)) from error
        if known is not None and known.is_wanted:
            self.wanted.set()
        else:
            self.wanted.clear()

    async def _feed(self) -> None:
        """Push a job whenever the grader is idle."""
        while True:
            await self.idle.wait()
            assert self.grader is not None  # noqa: S101 - registering sets it before ``idle``
            try:
                await self._feed_from_pool(self.grader)
            except PublishError as error:
                log.warning("no job for a connection", grader=self.grader.id, reason=str(error))
                await asyncio.sleep(PAUSE)

    async def _feed_from_pool(self, grader: Grader) -> None:
        handouts, within = self.gateway.handouts, self.gateway.sessions.interval
        async with handouts.open(grader, tag=f"ws-grader@{grader.id}") as jobs:
            while True:
                await self.idle.wait()
                await self.wanted.wait()
                with heeded():
                    handout = await handouts.take(grader, jobs, within=within)
                if handout:
                    await self._push(handout)

    async def _push(self, handout: Handout) -> None:
        self.current = handout
        self.idle.clear()
        await self._send(handout.message)

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self.websocket.send_text(json.dumps(message))
        except TimeoutError:
            raise _Closing(NO_CODE) from None

    async def _listen(self) -> None:
        """Handle the grader's messages. Reading never pauses for long, since pings arrive the same way."""
        while True:
            message = await self.websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1005)
            try:
                with heeded():
                    await self._handle(
                        message.get("bytes") or (message.get("text") or "").encode("utf-8", "surrogatepass")
                    )
            except InvalidBodyError as error:
                log.warning("bad message", grader=self.grader_id, reason=str(error))
                raise _Closing(INTERNAL_ERROR, "internal error") from error

    async def _handle(self, raw: bytes) -> None:
        message = parse(raw, SocketMessage)
        if message.type == "register":
            await self._register(check(message.args, SocketRegistration))
        elif self.grader is None:
            raise _Closing(PROTOCOL_ERROR, "submitting before registering")
        else:
            await self._report(self.grader, check(message.args, JobResult))

    async def _register(self, registration: SocketRegistration) -> None:
        try:
            await self.gateway.sessions.admitted(self.grader_id)
        except RevokedError as error:
            raise _Closing(POLICY_VIOLATION, str(error)) from error
        grader = await self.gateway.sessions.register(
            self.grader_id,
            hostname=registration.hostname,
            pool=pool_of(self.websocket.query_params.get("pool"), self.deps),
            over_socket=True,
            extended=is_ours(self.websocket.headers.get("user-agent")),
            runtime=runtime_of(self.websocket.query_params.get("runtime")),
            abilities=abilities_of(self.websocket.query_params.get("abilities")),
            running=registration.running,
        )
        self.grader = grader or self.grader  # before a step that may fail: `_part` must end the session
        await self._send({"success": grader is not None})
        if grader is None:
            raise _Closing(PROTOCOL_ERROR, f"worker id '{self.grader_id}' already exists", keeps_job=True)
        self.pinged.set()
        if grader.registered_at == grader.last_seen:  # it resumed no job
            self.idle.set()

    async def _report(self, grader: Grader, result: JobResult) -> None:
        try:
            await self._until_stored(grader, result)
        except UnwantedResultError as error:
            # A wrong report must not cost the grader the job that it runs.
            raise _Closing(PROTOCOL_ERROR, str(error), keeps_job=True) from error
        if await self.gateway.sessions.known(grader.id) is None:
            raise _Closing(PROTOCOL_ERROR, f"unknown worker '{grader.id}' successfully updated job")
        if self.current is None or self.current.job_id == result.grading_job_id:
            self.current = None
            self.idle.set()

    async def _until_stored(self, grader: Grader, result: JobResult) -> None:
        for _ in range(STORE_TRIES):
            try:
                return await self.gateway.results.report(grader, result)
            except StoreError as error:
                log.warning("result not stored yet", grader=grader.id, reason=str(error))
                await asyncio.sleep(PAUSE)
        raise _Closing(INTERNAL_ERROR, "internal error", keeps_job=True)


def _first(group: BaseExceptionGroup[Problem]) -> Problem:
    leaf = group.exceptions[0]
    return _first(leaf) if isinstance(leaf, BaseExceptionGroup) else leaf


def _shorten(reason: str) -> str:
    return reason.encode()[:MAX_REASON].decode(errors="ignore")

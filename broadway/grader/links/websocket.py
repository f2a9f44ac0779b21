"""Grading over WebSockets: one connection for each slot, one job at a time on each, pings as heartbeats."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import structlog
from pydantic import BaseModel, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode

from broadway.domain.mistakes import mistakes
from broadway.grader.links.identity import own_secret
from broadway.grader.links.join import demand_trust, refused_token, taken
from broadway.grader.links.protocol import (
    AGENT,
    DEFAULT_HEARTBEAT,
    HttpRunner,
    claim_within,
    grader_parameters,
    hostname,
    retry_forever,
)
from broadway.grader.worker.availability import CHECK_INTERVAL
from broadway.grader.worker.orphans import Orphans
from broadway.messages.http import (
    IDENTITY_HEADER,
    INTERVAL_HEADER,
    JobMessage,
    JobResult,
    Registration,
    SocketMessage,
    SocketRegistration,
)
from broadway.runtime.cancellation import end
from broadway.service import SettingError, Stop, background
from broadway.settings.grader import GraderSettings

log = structlog.get_logger(__name__)

ANSWER_TIMEOUT = 30.0  # seconds
LONG_ENOUGH = 10.0  # seconds; after a shorter connection, the next attempt waits
RESEND_DELAY = 1.0  # seconds before results are sent again: a server that no longer wants them first pushes a job

_REFUSALS = {CloseCode.PROTOCOL_ERROR, CloseCode.MESSAGE_TOO_BIG}  # a result that will never be accepted


class _EndedError(Exception):
    """A connection failed, or ended too soon."""


class _Answer(BaseModel):
    success: bool


async def serve(settings: GraderSettings, *, runners: Mapping[str, HttpRunner], orphans: Orphans, stop: Stop) -> None:
    """Keep a connection for each slot until ``stop`` is set.

    Then running jobs may finish, and are killed after the drain timeout. ``runners`` has a runner with a spool of its
    own for each connection, by the name under which the connection registers.

    Raises:
        StartError: The server refuses the token, another process has this grader's id, or a slot's secret cannot be
            stored.
    """
    stop.heed()
    registered = asyncio.Event()
    slots = [_Slot(settings, name, runner, stop, registered) for name, runner in runners.items()]
    tasks = [asyncio.create_task(slot.serve(), name=slot.name) for slot in slots]
    try:
        async with background(_reap(orphans, registered)):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await end(*tasks)
    errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in filter(None, errors):
        raise error


async def _reap(orphans: Orphans, registered: asyncio.Event) -> None:
    """Remove what dead graders left, once this grader has registered, until cancelled."""
    await registered.wait()
    await orphans.reap()
    await orphans.reap_forever()


@dataclass(slots=True)
class _Slot:
    """One slot and its connection, which is made again whenever it breaks.

    A result stays in ``results`` until the server pushes the next job or refuses the result; the protocol has no other
    acknowledgment. ``sent`` holds the results that were sent on the present connection.
    """

    settings: GraderSettings
    name: str
    runner: HttpRunner
    stop: Stop
    registered: asyncio.Event  # set once any slot of this grader has registered
    extended: bool = False  # the server is ours, with extensions of the original's protocol
    was_registered: bool = False
    refused_since: float | None = None  # on the monotonic clock; None while the first registration is not refused
    has_left: bool = False
    refusal: str = ""
    socket: ClientConnection | None = None
    job_id: str = ""
    running: asyncio.Task[None] | None = None
    results: dict[str, JobResult] = field(default_factory=dict)
    sent: dict[str, JobResult] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self) -> None:
        """Take jobs until ``stop`` is set; a running job may then finish, and is killed after the drain timeout."""
        self.results = {result.job_id: result for result in self.runner.spool}
        connecting = asyncio.create_task(self._keep_connected())
        stopped = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait((connecting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                await self._drain()
        finally:
            await end(connecting, stopped)
            await self._abandon()
        if not connecting.cancelled():
            connecting.result()

    async def _keep_connected(self) -> None:
        """Connect again whenever the connection breaks. A running job goes on meanwhile."""
        while not self.has_left:
            async for attempt in retry_forever(_EndedError):
                with attempt:
                    await self._connect()

    async def _connect(self) -> None:
        """Serve one connection to its end.

        Raises:
            StartError: The server refuses a token that it has never accepted.
            _EndedError: The connection ended too soon.
        """
        await self.runner.ready(self.stop)
        started = asyncio.get_running_loop().time()
        try:
            async with connect(
                self._address(),
                additional_headers=self._credentials(),
                user_agent_header=AGENT,
                max_size=None,
                ping_interval=None,
                ssl=self.settings.tls if self.settings.api_host.startswith("wss:") else None,
            ) as socket:
                self.socket = socket
                interval = _interval(socket)
                if (interval is not None) is not self.extended:
                    self.extended = interval is not None
                    return  # connect again, with or without the extensions
                await self._serve_connection(socket, interval or DEFAULT_HEARTBEAT)
        except (OSError, WebSocketException) as error:
            demand_trust(self.settings.api_host, error)
            log.warning("no connection to the API", grader=self.name, reason=f"{type(error).__name__}: {error}")
        if asyncio.get_running_loop().time() - started < LONG_ENOUGH:
            raise _EndedError

    def _credentials(self) -> dict[str, str]:
        """Return the headers with this slot's token and secret: a server of ours admits it as at a join."""
        token, secret = self.settings.token.get_secret_value(), own_secret(self.settings.work_dir, self.name)
        return {"Authorization": f"Bearer {token}", IDENTITY_HEADER: secret}

    def _address(self) -> str:
        address = f"{self.settings.api_host}/api/v1/worker_ws/{self.name}"
        return f"{address}?{urlencode(grader_parameters(self.settings))}" if self.extended else address

    async def _serve_connection(self, socket: ClientConnection, interval: float) -> None:
        try:
            if await self._register(socket):
                async with background(
                    _beat(socket, interval), self._send_results(socket), self._leave_when_unfit(socket)
                ):
                    async for message in socket:
                        await self._take(socket, message)
        except* ConnectionClosed:
            pass
        self._handle_close(socket)

    async def _register(self, socket: ClientConnection) -> bool:
        message = Registration(hostname=hostname())
        if self.extended:
            running = [*([self.job_id] if self._is_busy() else []), *self.results]
            message = SocketRegistration(hostname=message.hostname, running=running)
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await _send(socket, SocketMessage(type="register", args=message.model_dump()))
            if not _is_success(await socket.recv()):
                await socket.wait_closed()  # the close frame has the reason
                self._give_up_a_taken_id(_interval(socket))
                return False
        log.info("ready to grade", grader=self.name, way="websocket")
        self.was_registered, self.refusal = True, ""
        self.registered.set()
        return True

    def _give_up_a_taken_id(self, interval: float | None) -> None:
        """Return after a refused registration, unless a server of ours has refused the first one for too long.

        Raises:
            SettingError: Another process has this grader's id.
        """
        if self.was_registered or interval is None:
            return
        now = time.monotonic()
        self.refused_since = self.refused_since or now
        if now - self.refused_since > claim_within(interval):
            raise SettingError(taken(self.name))

    def _handle_close(self, socket: ClientConnection) -> None:
        """Log the reason for which a connection has ended, and forget the results that the server refuses.

        Raises:
            StartError: The server refuses a token that it has never accepted.
        """
        if self.has_left:
            return
        code, reason = socket.close_code, socket.close_reason
        if code == CloseCode.POLICY_VIOLATION and not self.was_registered:
            raise refused_token(self.settings.api_host, reason or "")
        if code in _REFUSALS:
            for job_id in self.sent:
                log.warning("result not wanted", grader=self.name, job=job_id, reason=reason)
            self._forget(self.sent)
        self.sent.clear()
        refusal = f"{code} {reason}".strip()
        if refusal != self.refusal:  # each reason is logged once; usually the server still counts on an earlier process
            self.refusal = refusal
            log.warning("connection ended", grader=self.name, reason=refusal)

    async def _take(self, socket: ClientConnection, message: str | bytes) -> None:
        """Start a job. Its arrival means that earlier results have arrived or are no longer wanted."""
        try:
            job = JobMessage.model_validate_json(message)
        except ValidationError as error:
            log.warning("not understood", grader=self.name, reason=mistakes(error, JobMessage)[0])
            await socket.close(CloseCode.INVALID_DATA)
            return
        if self.stop.is_set():
            log.info("taking nothing new", grader=self.name, job=job.grading_job_id)
            return  # the server requeues the job when the connection closes
        await self._abandon()
        self._forget(self.results)
        self.sent.clear()
        self.job_id, self.running = job.grading_job_id, asyncio.create_task(self._work(job))

    async def _work(self, job: JobMessage) -> None:
        result = await self.runner.work(job)
        self.results[result.job_id] = result
        self.changed.set()

    async def _send_results(self, socket: ClientConnection) -> None:
        """Send results as jobs finish, until cancelled."""
        if self.results:
            await asyncio.sleep(RESEND_DELAY)
        while True:
            await self._wait_until(self._unsent)
            for result in self._unsent():
                args = result.body(extended=self.extended)
                await _send(socket, SocketMessage(type="job_result", args=args))
                self.sent[result.job_id] = result
            self.changed.set()

    async def _leave_when_unfit(self, socket: ClientConnection) -> None:
        """Close the idle connection when the self-check fails: the server may push a job on it at any time."""
        while not self.runner.self_check.reason or self._is_busy() or self._unsent():  # noqa: ASYNC110 - disks send no events
            await asyncio.sleep(CHECK_INTERVAL)
        await socket.close()

    async def _drain(self) -> None:
        """Let the running job finish and send its result, within the drain timeout, then close the connection.

        Our own server takes a clean close as a sign-off, and gives a killed job to another grader.
        """
        if self._is_busy():
            log.info("draining", grader=self.name, job=self.job_id, seconds=self.settings.drain_timeout)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_timeout):
                if self.running:
                    await asyncio.wait([self.running])
                await self._wait_until(lambda: not self._unsent())
        await self._abandon()
        self.has_left = True
        if self.socket:
            await self.socket.close()
            if self.socket.close_code == CloseCode.NORMAL_CLOSURE:
                self._forget(self.sent)

    async def _abandon(self) -> None:
        if self.running and not self.running.done():
            log.info("job given up", grader=self.name, job=self.job_id)
            await end(self.running)
        self.running = None

    def _is_busy(self) -> bool:
        return self.running is not None and not self.running.done()

    def _unsent(self) -> list[JobResult]:
        return [result for job_id, result in self.results.items() if self.sent.get(job_id) is not result]

    def _forget(self, job_ids: Iterable[str]) -> None:
        for job_id in list(job_ids):
            if result := self.results.pop(job_id, None):
                self.runner.spool.remove(result)
        self.changed.set()

    async def _wait_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def _beat(socket: ClientConnection, interval: float) -> None:
    """Ping at intervals; abort the connection if the server does not answer."""
    while True:
        try:
            async with asyncio.timeout(2 * interval):
                await (await socket.ping())
        except TimeoutError:
            log.warning("the API does not answer")
            socket.transport.abort()
            return
        await asyncio.sleep(interval)


async def _send(socket: ClientConnection, message: SocketMessage) -> None:
    await socket.send(json.dumps(message.model_dump()))


def _interval(socket: ClientConnection) -> float | None:
    """Return the seconds between heartbeats that the server asks for; None if it is not our own server."""
    text = socket.response.headers.get(INTERVAL_HEADER) if socket.response else None
    return float(text) if text else None


def _is_success(answer: str | bytes) -> bool:
    try:
        return _Answer.model_validate_json(answer).success
    except ValidationError:
        return False

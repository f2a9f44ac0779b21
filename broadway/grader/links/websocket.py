"""Grading over WebSockets: one connection for each slot, one job at a time on each, pings as heartbeats."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import structlog
from pydantic import BaseModel, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode

from broadway.grader.links.join import demand_trust, refused_token
from broadway.grader.links.protocol import (
    AGENT,
    HEARTBEAT_UNTOLD,
    HttpRunner,
    hostname,
    patiently,
    presentation,
)
from broadway.grader.worker.availability import LOOK
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.self_check import SelfCheck
from broadway.grader.worker.spool import Spool
from broadway.messages.http import (
    INTERVAL_HEADER,
    JobMessage,
    JobResult,
    Registration,
    SocketMessage,
    SocketRegistration,
)
from broadway.runtime.cancellation import end
from broadway.service import background
from broadway.settings.programs import GraderSettings

log = structlog.get_logger(__name__)

ANSWER_WITHIN = 30.0  # seconds
LASTING = 10.0  # seconds; a connection that ends sooner is no reason to try the next one at once
SECOND_THOUGHTS = 1.0  # seconds in which a server that has given a job up pushes the next one

_REFUSALS = {CloseCode.PROTOCOL_ERROR, CloseCode.MESSAGE_TOO_BIG}  # of a result that will never be taken


class _EndedError(Exception):
    """A connection could not be made, or has ended too soon."""


class _Answer(BaseModel):
    success: bool


async def serve(
    settings: GraderSettings, *, runner: Runner, spool: Path, self_check: SelfCheck, stop: asyncio.Event
) -> None:
    """Keep a connection for each slot until told to stop; then finish what runs, or give it up.

    Each connection has a spool of its own in the directory ``spool``.

    Raises:
        StartError: The server refuses the token.
    """
    names = [settings.grader_id, *(f"{settings.grader_id}-{number}" for number in range(2, settings.slots + 1))]
    lines = [
        _Line(settings, name, HttpRunner(runner, Spool(spool / name, JobResult), self_check), stop) for name in names
    ]
    tasks = [asyncio.create_task(line.serve(), name=line.name) for line in lines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await end(*tasks)
    errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in filter(None, errors):
        raise error


@dataclass(slots=True)
class _Line:
    """One slot, and its connection over and over again.

    A result stays in ``results`` until the server goes on to the next job or refuses it: there is no other answer.
    ``sent`` are those that the present connection has been told.
    """

    settings: GraderSettings
    name: str
    runner: HttpRunner
    stop: asyncio.Event
    extended: bool = False  # the server is ours, and understands more than the original's protocol
    has_been_taken_on: bool = False
    has_left: bool = False
    refusal: str = ""
    socket: ClientConnection | None = None
    job_id: str = ""
    running: asyncio.Task[None] | None = None
    results: dict[str, JobResult] = field(default_factory=dict)
    sent: dict[str, JobResult] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self) -> None:
        """Take jobs until told to stop; what runs then has its time to end, and is killed after that."""
        self.results = {result.job_id: result for result in self.runner.spool}
        keeping = asyncio.create_task(self._keep())
        stopped = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait((keeping, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not keeping.done():
                await self._drain()
        finally:
            await end(keeping, stopped)
            await self._abandon()
        if not keeping.cancelled():
            keeping.result()

    async def _keep(self) -> None:
        """Connect again whenever the connection has broken. What runs goes on meanwhile."""
        while not self.has_left:
            async for attempt in patiently(_EndedError):
                with attempt:
                    await self._connect()

    async def _connect(self) -> None:
        """Serve one connection to its end.

        Raises:
            StartError: The token has never been good.
            _EndedError: It was a short one.
        """
        await self.runner.ready(self.stop)
        begun = asyncio.get_running_loop().time()
        try:
            async with connect(
                self._address(),
                additional_headers={"Authorization": f"Bearer {self.settings.token.get_secret_value()}"},
                user_agent_header=AGENT,
                max_size=None,
                ping_interval=None,
                ssl=self.settings.tls if self.settings.api_host.startswith("wss:") else None,
            ) as socket:
                self.socket = socket
                interval = _interval(socket)
                if (interval is not None) is not self.extended:
                    self.extended = interval is not None
                    return  # and ask again, the way that this server understands
                await self._converse(socket, interval or HEARTBEAT_UNTOLD)
        except (OSError, WebSocketException) as error:
            demand_trust(self.settings.api_host, error)
            log.warning("no connection to the API", grader=self.name, reason=f"{type(error).__name__}: {error}")
        if asyncio.get_running_loop().time() - begun < LASTING:
            raise _EndedError

    def _address(self) -> str:
        address = f"{self.settings.api_host}/api/v1/worker_ws/{self.name}"
        return f"{address}?{urlencode(presentation(self.settings))}" if self.extended else address

    async def _converse(self, socket: ClientConnection, interval: float) -> None:
        try:
            if await self._register(socket):
                async with background(_beat(socket, interval), self._tell(socket), self._leave_when_unfit(socket)):
                    async for message in socket:
                        await self._take(socket, message)
        except* ConnectionClosed:
            pass
        self._learn_from(socket)

    async def _register(self, socket: ClientConnection) -> bool:
        message = Registration(hostname=hostname())
        if self.extended:
            running = [*([self.job_id] if self._is_busy() else []), *self.results]
            message = SocketRegistration(hostname=message.hostname, running=running)
        async with asyncio.timeout(ANSWER_WITHIN):
            await _say(socket, SocketMessage(type="register", args=message.model_dump()))
            if not _is_yes(await socket.recv()):
                await socket.wait_closed()  # the reason comes with the end
                return False
        log.info("ready to grade", grader=self.name, way="websocket")
        self.has_been_taken_on, self.refusal = True, ""
        return True

    def _learn_from(self, socket: ClientConnection) -> None:
        """Why a connection has ended.

        Raises:
            StartError: The token has never been good.
        """
        if self.has_left:
            return
        code, reason = socket.close_code, socket.close_reason
        if code == CloseCode.POLICY_VIOLATION and not self.has_been_taken_on:
            raise refused_token(self.settings.api_host)
        if code in _REFUSALS:
            for job_id in self.sent:
                log.warning("result not wanted", grader=self.name, job=job_id, reason=reason)
            self._forget(self.sent)
        self.sent.clear()
        refusal = f"{code} {reason}".strip()
        if refusal != self.refusal:  # that an earlier life has not been given up yet, for one, is said once
            self.refusal = refusal
            log.warning("connection ended", grader=self.name, reason=refusal)

    async def _take(self, socket: ClientConnection, message: str | bytes) -> None:
        """Start a job. Whatever went before has arrived, or is not wanted any more."""
        try:
            job = JobMessage.model_validate_json(message)
        except ValidationError as error:
            log.warning("not understood", grader=self.name, reason=str(error))
            await socket.close(CloseCode.INVALID_DATA)
            return
        if self.stop.is_set():
            log.info("taking nothing new", grader=self.name, job=job.grading_job_id)
            return  # it goes back when the connection closes
        await self._abandon()
        self._forget(self.results)
        self.sent.clear()
        self.job_id, self.running = job.grading_job_id, asyncio.create_task(self._work(job))

    async def _work(self, job: JobMessage) -> None:
        result = await self.runner.work(job)
        self.results[result.job_id] = result
        self.changed.set()

    async def _tell(self, socket: ClientConnection) -> None:
        """Report what is done, until cancelled."""
        if self.results:
            await asyncio.sleep(SECOND_THOUGHTS)
        while True:
            await self._until(self._untold)
            for result in self._untold():
                args = result.body(extended=self.extended)
                await _say(socket, SocketMessage(type="job_result", args=args))
                self.sent[result.job_id] = result
            self.changed.set()

    async def _leave_when_unfit(self, socket: ClientConnection) -> None:
        """Close the connection when no job is wanted: who has it may send one at any time."""
        while not self.runner.self_check.reason or self._is_busy() or self._untold():  # noqa: ASYNC110 - a disk tells nobody
            await asyncio.sleep(LOOK)
        await socket.close()

    async def _drain(self) -> None:
        """Let the job end and be told, for as long as there is time, and close: on our own server that is a goodbye."""
        if self._is_busy():
            log.info("draining", grader=self.name, job=self.job_id, seconds=self.settings.drain_timeout)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_timeout):
                if self.running:
                    await asyncio.wait([self.running])
                await self._until(lambda: not self._untold())
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

    def _untold(self) -> list[JobResult]:
        return [result for job_id, result in self.results.items() if self.sent.get(job_id) is not result]

    def _forget(self, job_ids: Iterable[str]) -> None:
        for job_id in list(job_ids):
            if result := self.results.pop(job_id, None):
                self.runner.spool.remove(result)
        self.changed.set()

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()


async def _beat(socket: ClientConnection, interval: float) -> None:
    """Ping at intervals; a connection whose other end does not answer is cut."""
    while True:
        try:
            async with asyncio.timeout(2 * interval):
                await (await socket.ping())
        except TimeoutError:
            log.warning("the API does not answer")
            socket.transport.abort()
            return
        await asyncio.sleep(interval)


async def _say(socket: ClientConnection, message: SocketMessage) -> None:
    await socket.send(json.dumps(message.model_dump()))


def _interval(socket: ClientConnection) -> float | None:
    """Seconds between heartbeats; None from a server that does not say, which is none of ours."""
    told = socket.response.headers.get(INTERVAL_HEADER) if socket.response else None
    return float(told) if told else None


def _is_yes(answer: str | bytes) -> bool:
    try:
        return _Answer.model_validate_json(answer).success
    except ValidationError:
        return False

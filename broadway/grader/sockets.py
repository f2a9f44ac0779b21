"""Grading over WebSockets: one connection for each slot, one job at a time on each."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import structlog
import websockets
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect

from broadway.cancellation import end
from broadway.grader.bench import Bench
from broadway.grader.join import refused_token
from broadway.grader.spool import Spool
from broadway.grader.v1 import AGENT, HEARTBEAT_UNTOLD, Hand, JobMessage, JobResult, hostname
from broadway.service import background, unless_stopped
from broadway.settings import GraderSettings

log = structlog.get_logger(__name__)

INTERVAL_HEADER = "broadway-heartbeat-interval"  # which only our own server sends
POLICY_VIOLATION, PROTOCOL_ERROR = 1008, 1002
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between connections
OPEN_WITHIN = 10.0  # seconds
TAKEN_AFTER = 30.0  # seconds without a word from the server, after which it has surely taken a result


async def serve(settings: GraderSettings, *, bench: Bench, spool: Path, stop: asyncio.Event) -> None:
    """Keep a connection for each slot until told to stop; then finish what runs, or give it up.

    Raises:
        StartError: The server refuses the token.
    """
    names = [settings.grader_id, *(f"{settings.grader_id}-{number}" for number in range(2, settings.slots + 1))]
    lines = [
        _Line(settings, name, Hand(replace(bench, grader_id=name), Spool(spool / name, JobResult)), stop)
        for name in names
    ]
    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(line.keep())


@dataclass(slots=True)
class _Line:
    """One slot, and its connection over and over again."""

    settings: GraderSettings
    name: str
    hand: Hand
    stop: asyncio.Event
    has_been_taken_on: bool = False
    job: JobMessage | None = None
    task: asyncio.Task[None] | None = None
    untold: asyncio.Event = field(default_factory=asyncio.Event)
    told: list[JobResult] = field(default_factory=list)

    @property
    def address(self) -> str:
        query = f"?{urlencode({'pool': self.settings.pool})}" if self.settings.pool != "default" else ""
        return f"{self.settings.api_host}/api/v1/worker_ws/{self.name}{query}"

    async def keep(self) -> None:
        """Connect again whenever the connection has broken. What runs meanwhile goes on."""
        pause = FIRST_PAUSE
        try:
            while not self.stop.is_set():
                pause = FIRST_PAUSE if await self._connect() else min(LONGEST_PAUSE, 2 * pause)
                await unless_stopped(asyncio.sleep(pause), self.stop)
        finally:
            await self._abandon()

    async def _connect(self) -> bool:
        """Serve one connection to its end; whether this grader was taken on."""
        headers = {"Authorization": f"Bearer {self.settings.token.get_secret_value()}"}
        try:
            async with connect(
                self.address,
                additional_headers=headers,
                user_agent_header=AGENT,
                max_size=None,
                ping_interval=None,
                open_timeout=OPEN_WITHIN,
            ) as socket:
                is_taken_on = await self._converse(socket)
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            log.warning("no connection to the API", grader=self.name, reason=f"{type(error).__name__}: {error}")
            return False
        self._learn_from(socket)
        return is_taken_on

    async def _converse(self, socket: ClientConnection) -> bool:
        assert socket.response is not None  # noqa: S101 - it is connected
        interval = socket.response.headers.get(INTERVAL_HEADER)
        self.told.clear()
        if not await self._register(socket, extended=interval is not None):
            return False
        self.has_been_taken_on = True
        log.info("ready to grade", grader=self.name, way="websocket")
        others = (
            _beat(socket, float(interval or HEARTBEAT_UNTOLD)),
            self._tell(socket, extended=interval is not None),
            self._close_when_told(socket, extended=interval is not None),
        )
        try:
            async with background(*others):
                async for message in socket:
                    await self._take(message)
        except* websockets.ConnectionClosed:
            pass
        return True

    async def _register(self, socket: ClientConnection, *, extended: bool) -> bool:
        args: dict[str, Any] = {"hostname": hostname()}
        if extended:
            args["running"] = self._unreported()
        try:
            await _say(socket, "register", args)
            if json.loads(await socket.recv()) == {"success": True}:
                return True
            await socket.recv()  # until the close frame, which has the reason
        except (websockets.ConnectionClosed, ValueError):
            pass
        return False

    def _unreported(self) -> list[str]:
        """Jobs that the server may believe to run here."""
        running = [self.job.grading_job_id] if self.job and self.task and not self.task.done() else []
        return [*running, *(result.job_id for result in self.hand.spool)]

    def _learn_from(self, socket: ClientConnection) -> None:
        """Why the connection has ended.

        Raises:
            StartError: The token has never been good.
        """
        code, reason = socket.close_code, socket.close_reason
        if code == POLICY_VIOLATION and not self.has_been_taken_on:
            raise refused_token(self.settings.api_host)
        if code == PROTOCOL_ERROR and self.told:
            # The server has refused a result: told again, it would end the next connection too.
            log.warning("result not wanted", job=self.told[0].job_id, reason=reason)
            self.hand.spool.remove(self.told[0])
        elif not self.stop.is_set():
            log.warning("connection ended", grader=self.name, code=code, reason=reason)

    async def _take(self, message: str | bytes) -> None:
        """Start a job. The server hands out one at a time: whatever went before is reported, or not wanted any more."""
        if self.stop.is_set():
            return  # it goes back when the connection closes
        try:
            job = JobMessage.model_validate_json(message)
        except ValidationError as error:
            log.warning("unreadable message", grader=self.name, problems=error.error_count())
            return
        await self._abandon()
        for result in self.hand.spool:
            self.hand.spool.remove(result)
        self.told.clear()
        self.job, self.task = job, asyncio.create_task(self._work(job))

    async def _work(self, job: JobMessage) -> None:
        await self.hand.work(job)
        self.untold.set()

    async def _tell(self, socket: ClientConnection, *, extended: bool) -> None:
        """Report what is done, what an earlier connection may have lost included, until cancelled.

        The protocol has no receipt: a result stays in the spool until the server goes on to the next job, or has been
        quiet for long.
        """
        while True:
            self.untold.clear()
            await self._tell_all(socket, extended=extended)
            try:
                async with asyncio.timeout(TAKEN_AFTER if self.told else None):
                    await self.untold.wait()
            except TimeoutError:
                for result in self.told:
                    self.hand.spool.remove(result)
                self.told.clear()

    async def _tell_all(self, socket: ClientConnection, *, extended: bool) -> None:
        for result in self.hand.spool:
            if result not in self.told:
                self.told.append(result)
                await _say(socket, "job_result", result.body(extended=extended))

    async def _close_when_told(self, socket: ClientConnection, *, extended: bool) -> None:
        """Once told to stop: let the job end and be reported, for as long as there is time, and close."""
        await self.stop.wait()
        if self.task is not None and not self.task.done():
            log.info("draining", grader=self.name, seconds=self.settings.drain_timeout)
            await asyncio.wait([self.task], timeout=self.settings.drain_timeout)
        await self._tell_all(socket, extended=extended)
        await socket.close()

    async def _abandon(self) -> None:
        if self.task is not None and not self.task.done():
            log.warning("job given up", grader=self.name, job=self.job.grading_job_id if self.job else None)
            await end(self.task)


async def _beat(socket: ClientConnection, interval: float) -> None:
    """Ping at intervals; a connection that does not answer is closed."""
    while True:
        pong = asyncio.ensure_future(await socket.ping())
        await asyncio.sleep(interval)
        if not pong.done():
            await asyncio.wait([pong], timeout=interval)
        if not pong.done():
            await socket.close()
            return


async def _say(socket: ClientConnection, kind: str, args: dict[str, Any]) -> None:
    await socket.send(json.dumps({"type": kind, "args": args}))

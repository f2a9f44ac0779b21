"""Grading over HTTP: register, poll, report, and say at intervals that one lives."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import httpx2
import structlog
from pydantic import BaseModel, ValidationError

from broadway.grader.links.join import Membership, http_client, refused_token
from broadway.grader.links.protocol import (
    HEARTBEAT_UNTOLD,
    HttpRunner,
    hostname,
    patiently,
    presentation,
)
from broadway.messages.http import NO_JOB, JobMessage, JobResult, Registration
from broadway.runtime.cancellation import end
from broadway.service import StartError, background, unless_stopped
from broadway.settings.programs import GraderSettings

log = structlog.get_logger(__name__)

LONG_POLL = 20  # seconds that our own server is asked to keep a poll waiting
PAUSE = 5.0  # seconds between polls of a server that has no job and does not wait for one
REPORT_WITHIN = 120.0  # seconds; a result may be large
LAST_WORDS_WITHIN = 5.0  # seconds

_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}  # of a result that will never be taken
_UNANSWERED = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


Said = TypeVar("Said", bound=BaseModel)


class _AgainError(Exception):
    """The server could not be reached, or has not done what was asked: it may be asked again."""


class _Beat(BaseModel):
    heartbeat: float


class _Registered(BaseModel):
    data: _Beat


class _HandedOut(BaseModel):
    data: JobMessage


async def serve(settings: GraderSettings, membership: Membership, *, runner: HttpRunner, stop: asyncio.Event) -> None:
    """Poll for jobs until told to stop; then finish what runs, or give it up.

    Raises:
        StartError: The server refuses the token.
    """
    async with http_client(settings) as http:
        poller = _Poller(settings, http, runner, stop, extended=membership.extended)
        # Before anything else: as long as an earlier life is on record, what it ran may be reported.
        await unless_stopped(poller.report_spooled(once=True), stop)
        if await unless_stopped(poller.register(), stop) is None:
            return
        async with background(poller.beat(), poller.report_spooled()):
            await poller.work()
        await poller.leave()


@dataclass(slots=True)
class _Poller:
    settings: GraderSettings
    http: httpx2.AsyncClient
    runner: HttpRunner
    stop: asyncio.Event
    extended: bool
    interval: float | None = None  # between heartbeats; None until this grader has been taken on
    refusal: str = ""
    idle: asyncio.Lock = field(default_factory=asyncio.Lock)
    registering: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return self.settings.grader_id

    async def register(self) -> float:
        """Be taken on, however long it takes; the seconds between heartbeats.

        Raises:
            StartError: The token has never been good.
        """
        async for attempt in patiently(_AgainError):
            with attempt:
                self.interval = await self._register()
                log.info("ready to grade", grader=self.name, slots=self.settings.slots, way="polling")
                return self.interval
        raise AssertionError  # patience has no end

    async def _register(self) -> float:
        query = presentation(self.settings) if self.extended else None
        answer = await self._ask("POST", "worker", Registration(hostname=hostname()).model_dump(), params=query)
        if answer.is_success:
            return _read(_Registered, answer).data.heartbeat or HEARTBEAT_UNTOLD
        if answer.text != self.refusal:  # most likely an earlier life has not been given up yet: that is said once
            self.refusal = answer.text
            log.warning("not taken on yet", grader=self.name, reason=answer.text[:200])
        raise _AgainError

    async def beat(self) -> None:
        """Say at intervals that this grader lives, until cancelled."""
        while True:
            interval = self.interval or HEARTBEAT_UNTOLD
            await asyncio.sleep(interval)
            async for attempt in patiently(_AgainError, longest=interval / 2):
                with attempt:
                    await self._ask("POST", "heartbeat")

    async def work(self) -> None:
        """Fill the slots until told to stop; what runs then has its time to end, and is killed after that."""
        async with asyncio.TaskGroup() as group:
            slots = [group.create_task(self._fill_slot()) for _ in range(self.settings.slots)]
            await self.stop.wait()
            log.info("draining", grader=self.name, seconds=self.settings.drain_timeout)
            await asyncio.wait(slots, timeout=self.settings.drain_timeout)
            await end(*slots)

    async def _fill_slot(self) -> None:
        while not self.stop.is_set():
            async with self.idle:  # one idle slot speaks for all
                await self.runner.ready(self.stop)
                job = await self._next()
            if job is not None:
                await self.report(await self.runner.work(job))

    async def _next(self) -> JobMessage | None:
        """A job; None when it is time to stop, or when there has been none."""
        # Hanging up loses no job of our own server; the original's would take it for started.
        job = await unless_stopped(self._poll(), self.stop) if self.extended else await self._poll()
        if job is None and not self.stop.is_set():
            await unless_stopped(asyncio.sleep(PAUSE), self.stop)
        return job

    async def _poll(self) -> JobMessage | None:
        """A job; None when there is none, and the server did not wait for one."""
        async for attempt in patiently(_AgainError):
            with attempt:
                while not self.stop.is_set():
                    begun = asyncio.get_running_loop().time()
                    job = await self._take()
                    if job or asyncio.get_running_loop().time() - begun < LONG_POLL / 2:
                        return job
        return None

    async def _take(self) -> JobMessage | None:
        headers = {"Prefer": f"wait={LONG_POLL}"} if self.extended else None
        answer = await self._ask("GET", "grading_job", headers=headers, timeout=2.0 * LONG_POLL)
        if answer.status_code == NO_JOB:
            return None
        return _read(_HandedOut, answer).data

    async def report_spooled(self, *, once: bool = False) -> None:
        """Report what an earlier life could not; with ``once``, only what can be reported just now."""
        with contextlib.suppress(_AgainError):
            for result in list(self.runner.spool):
                log.info("reporting a spooled result", job=result.job_id)
                await (self._report(result) if once else self.report(result))

    async def report(self, result: JobResult) -> None:
        """Return when the server has a result, or does not want it."""
        async for attempt in patiently(_AgainError):
            with attempt:
                await self._report(result)

    async def _report(self, result: JobResult) -> None:
        body = result.body(extended=self.extended)
        answer = await self._ask("POST", "grading_job", body, timeout=REPORT_WITHIN)
        if answer.status_code in _REFUSED:
            log.warning("result not wanted", job=result.job_id, reason=answer.text[:200])
        elif not answer.is_success:
            raise _again("result not taken", f"status {answer.status_code}")
        self.runner.spool.remove(result)

    async def leave(self) -> None:
        """Say what is left to say and goodbye, so that what was given up starts elsewhere at once."""
        with contextlib.suppress(TimeoutError, httpx2.HTTPError):
            async with asyncio.timeout(LAST_WORDS_WITHIN):
                await self.report_spooled(once=True)
                if self.extended:  # the original has no word for it
                    await self.http.delete(f"/api/v2/graders/{self.name}")

    async def _ask(self, method: str, what: str, body: object = None, **more: Any) -> httpx2.Response:
        """The server's answer to what was asked, which may be no.

        Raises:
            _AgainError: There is none now; or it did not know this grader, and does now.
            StartError: The token has never been good, or this grader has been revoked.
        """
        try:
            answer = await self.http.request(method, f"/api/v1/{what}/{self.name}", json=body, **more)
        except httpx2.HTTPError as error:
            raise _again(f"no answer to {what}", f"{type(error).__name__}: {error}") from error
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            await self._refused(answer.text)
        if answer.status_code == HTTPStatus.FORBIDDEN:
            raise StartError(f"the API refuses this grader: {answer.text[:200]}")
        if not (answer.is_success or answer.is_client_error) or answer.status_code in _UNANSWERED:
            raise _again(f"no answer to {what}", f"status {answer.status_code}")
        return answer

    async def _refused(self, refusal: str) -> None:
        is_unknown = "worker not found" in refusal
        if self.interval is None and not is_unknown:
            raise refused_token(self.settings.api_host)
        if self.interval is not None and is_unknown:
            await self._register_again()
        raise _again("refused", refusal[:200])

    async def _register_again(self) -> None:
        """The server has lost its record. Whoever finds that out first registers for all."""
        is_being_done = self.registering.locked()
        async with self.registering:
            if not is_being_done:
                await self.register()


def _again(what: str, reason: str) -> _AgainError:
    log.warning(what, reason=reason)
    return _AgainError(reason)


def _read(kind: type[Said], answer: httpx2.Response) -> Said:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise _again("not understood", f"status {answer.status_code}: {answer.text[:200]}") from error

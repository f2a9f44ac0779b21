"""Grading over HTTP: register, poll for jobs, report results, and send heartbeats."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import httpx2
import structlog
from pydantic import BaseModel, Field, ValidationError

from broadway.grader.links.join import Membership, credential_of, http_client, join, refused_token, taken
from broadway.grader.links.protocol import (
    DEFAULT_HEARTBEAT,
    HttpRunner,
    claim_within,
    grader_parameters,
    hostname,
    retry_forever,
)
from broadway.grader.worker.orphans import Orphans
from broadway.messages.http import NO_JOB, JobMessage, JobResult, Registration
from broadway.runtime.cancellation import end
from broadway.runtime.http_errors import UNSENT, why
from broadway.service import SettingError, StartError, Stop, background, unless_stopped
from broadway.settings.grader import GraderSettings

log = structlog.get_logger(__name__)

LONG_POLL = 20  # seconds for which our own server should hold a poll that finds no job
PAUSE = 5.0  # seconds between polls of a server that answers at once that it has no job
REPORT_TIMEOUT = 120.0  # seconds; a result may be large
LEAVE_TIMEOUT = 5.0  # seconds

_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}  # a result that will never be accepted
_UNANSWERED = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}

Body = TypeVar("Body", bound=BaseModel)


class _RetryError(Exception):
    """The server could not be reached, or did not carry out the request; the request may be retried."""


class _Beat(BaseModel):
    heartbeat: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class _Registered(BaseModel):
    data: _Beat


class _HandedOut(BaseModel):
    data: JobMessage


async def serve(
    settings: GraderSettings, membership: Membership, *, runner: HttpRunner, orphans: Orphans, stop: Stop
) -> None:
    """Poll for jobs until ``stop`` is set; then let running jobs finish, and kill them after the drain timeout.

    Raises:
        StartError: The server refuses the token, or another process has this grader's id.
    """
    stop.heed()
    async with http_client(settings, credential_of(settings, membership)) as http:
        poller = _Poller(settings, http, runner, stop, membership.extended, claim_within(membership.heartbeat_interval))
        # The server accepts the results of an earlier process of this grader only while that one is on record.
        await unless_stopped(poller.report_spooled(once=True), stop)
        if await unless_stopped(poller.register(), stop) is None:
            return
        await orphans.reap()
        async with background(poller.beat(), poller.report_spooled(), orphans.reap_forever()):
            await poller.work()
        await poller.leave()


@dataclass(slots=True)
class _Poller:
    settings: GraderSettings
    http: httpx2.AsyncClient
    runner: HttpRunner
    stop: Stop
    extended: bool
    claim_within: float  # seconds for which a server of ours may take an earlier process of this grader for alive
    interval: float | None = None  # seconds between heartbeats; None until this grader is registered
    refused_since: float | None = None  # on the monotonic clock; None while the first registration is not refused
    refusal: str = ""
    idle: asyncio.Lock = field(default_factory=asyncio.Lock)
    registering: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return self.settings.grader_id

    async def register(self) -> float:
        """Register, and retry without end; return the seconds between heartbeats.

        Raises:
            StartError: The server refuses a token that it has never accepted, or another process has this grader's id.
        """
        async for attempt in retry_forever(_RetryError):
            with attempt:
                self.interval = await self._register()
                log.info("ready to grade", grader=self.name, slots=self.settings.slots, way="polling")
                return self.interval
        raise AssertionError  # retries have no end

    async def _register(self) -> float:
        query = grader_parameters(self.settings) if self.extended else None
        answer = await self._request("POST", "worker", Registration(hostname=hostname()).model_dump(), params=query)
        if answer.is_success:
            return _read(_Registered, answer).data.heartbeat or DEFAULT_HEARTBEAT
        self._give_up_a_taken_id()
        if answer.text != self.refusal:  # logged once; usually the server still counts on an earlier process
            self.refusal = answer.text
            log.warning("not taken on yet", grader=self.name, reason=answer.text[:200])
        raise _RetryError

    def _give_up_a_taken_id(self) -> None:
        """Return after a refused registration, unless a server of ours has refused the first one for too long.

        Raises:
            SettingError: Another process has this grader's id.
        """
        if self.interval is not None or not self.extended:
            return
        now = time.monotonic()
        self.refused_since = self.refused_since or now
        if now - self.refused_since > self.claim_within:
            raise SettingError(taken(self.name))

    async def beat(self) -> None:
        """Send heartbeats at intervals, until cancelled."""
        while True:
            interval = self.interval or DEFAULT_HEARTBEAT
            await asyncio.sleep(interval)
            async for attempt in retry_forever(_RetryError, longest=interval / 2):
                with attempt:
                    await self._request("POST", "heartbeat")

    async def work(self) -> None:
        """Fill the slots until ``stop`` is set; then let running jobs finish, and kill them after the drain timeout."""
        async with asyncio.TaskGroup() as group:
            slots = [group.create_task(self._fill_slot()) for _ in range(self.settings.slots)]
            await self.stop.wait()
            log.info("draining", grader=self.name, seconds=self.settings.drain_timeout)
            await asyncio.wait(slots, timeout=self.settings.drain_timeout)
            await end(*slots)

    async def _fill_slot(self) -> None:
        while not self.stop.is_set():
            async with self.idle:  # one idle slot polls for all
                await self.runner.ready(self.stop)
                job = await self._next()
            if job is not None:
                await self.report(await self.runner.work(job))

    async def _next(self) -> JobMessage | None:
        """Return a job, or None if the server has no job or ``stop`` is set."""
        # Breaking off a poll loses no job of our own server; the original's would count the job as started.
        job = await unless_stopped(self._poll(), self.stop) if self.extended else await self._poll()
        if job is None and not self.stop.is_set():
            await unless_stopped(asyncio.sleep(PAUSE), self.stop)
        return job

    async def _poll(self) -> JobMessage | None:
        """Poll until there is a job; return None once ``stop`` is set, or if the server does not hold polls."""
        async for attempt in retry_forever(_RetryError):
            with attempt:
                while not self.stop.is_set():
                    started = asyncio.get_running_loop().time()
                    job = await self._take()
                    if job or asyncio.get_running_loop().time() - started < LONG_POLL / 2:
                        return job
        return None

    async def _take(self) -> JobMessage | None:
        headers = {"Prefer": f"wait={LONG_POLL}"} if self.extended else None
        answer = await self._request("GET", "grading_job", headers=headers, timeout=2.0 * LONG_POLL)
        if answer.status_code == NO_JOB:
            return None
        return _read(_HandedOut, answer).data

    async def report_spooled(self, *, once: bool = False) -> None:
        """Report results that an earlier process could not; with ``once``, stop at the first failed request."""
        with contextlib.suppress(_RetryError):
            for result in list(self.runner.spool):
                log.info("reporting a spooled result", job=result.job_id)
                await (self._report(result) if once else self.report(result))

    async def report(self, result: JobResult) -> None:
        """Report a result until the server has accepted or refused it."""
        async for attempt in retry_forever(_RetryError):
            with attempt:
                await self._report(result)

    async def _report(self, result: JobResult) -> None:
        body = result.body(extended=self.extended)
        answer = await self._request("POST", "grading_job", body, timeout=REPORT_TIMEOUT)
        if answer.status_code in _REFUSED:
            log.warning("result not wanted", job=result.job_id, reason=answer.text[:200])
        elif not answer.is_success:
            raise _retry("result not taken", f"status {answer.status_code}")
        self.runner.spool.remove(result)

    async def leave(self) -> None:
        """Report the last results and sign off, so that jobs given up here start on another grader at once."""
        with contextlib.suppress(TimeoutError, httpx2.HTTPError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self.report_spooled(once=True)
                if self.extended:  # the original's API has no such request
                    await self.http.delete(f"/api/v2/graders/{self.name}")

    async def _request(self, method: str, endpoint: str, body: object = None, **more: Any) -> httpx2.Response:
        """Send a request and return the answer, which may have a client error as its status.

        Raises:
            _RetryError: No answer came, or the server had lost its record of this grader, which is registered again.
            StartError: The server refuses a token that it has never accepted, or this grader has been revoked.
        """
        try:
            answer = await self.http.request(method, f"/api/v1/{endpoint}/{self.name}", json=body, **more)
        except UNSENT as error:
            raise _retry(f"no answer to {endpoint}", f"{type(error).__name__}: {why(error)}") from error
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            await self._unauthorized(answer.text)
        if answer.status_code == HTTPStatus.FORBIDDEN:
            raise StartError(f"the API refuses this grader: {answer.text[:200]}")
        if not (answer.is_success or answer.is_client_error) or answer.status_code in _UNANSWERED:
            raise _retry(f"no answer to {endpoint}", f"status {answer.status_code}")
        return answer

    async def _unauthorized(self, refusal: str) -> None:
        is_unknown = "worker not found" in refusal
        if self.interval is None and not is_unknown:
            raise refused_token(self.settings.api_host)
        if self.interval is not None and is_unknown:
            await self._register_again()
        elif self.interval is not None and self.extended:
            await self._join_again()
        raise _retry("refused", refusal[:200])

    async def _register_again(self) -> None:
        """Register with a server that has lost its record of this grader; concurrent requests share one attempt."""
        is_being_done = self.registering.locked()
        async with self.registering:
            if not is_being_done:
                await self.register()

    async def _join_again(self) -> None:
        """Join a server that has forgotten this grader's secret, or that did not know secrets when this one joined."""
        credential = credential_of(self.settings, await join(self.settings))
        self.http.headers["Authorization"] = f"Bearer {credential}"


def _retry(event: str, reason: str) -> _RetryError:
    log.warning(event, reason=reason)
    return _RetryError(reason)


def _read(kind: type[Body], answer: httpx2.Response) -> Body:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise _retry("not understood", f"status {answer.status_code}: {answer.text[:200]}") from error

"""Grading over HTTP: register, poll, report, and say at intervals that one lives."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx2
import structlog

from broadway.cancellation import end
from broadway.grader.join import LONGEST_PAUSE, Membership, http_client, refused_token
from broadway.grader.v1 import HEARTBEAT_UNTOLD, Hand, JobMessage, JobResult, hostname
from broadway.service import background, unless_stopped
from broadway.settings import GraderSettings

log = structlog.get_logger(__name__)

LONG_POLL = 20  # seconds that our own server keeps a poll waiting
PAUSE_AFTER_LONG_POLL = 1.0  # seconds
PAUSE = 5.0  # seconds between polls of a server that answers at once
PAUSE_AFTER_FAILURE = 1.0  # seconds; grows
GOODBYE_WITHIN = 5.0  # seconds

NO_JOB = 498


class _UnknownWorkerError(Exception):
    """The server has no record of this grader."""


class _AgainError(Exception):
    """The server could not be reached, or had a problem of its own."""


async def serve(settings: GraderSettings, membership: Membership, *, hand: Hand, stop: asyncio.Event) -> None:
    """Poll for jobs until told to stop; then finish what runs, or give it back.

    Raises:
        StartError: The server refuses the token.
    """
    async with http_client(settings) as http:
        poller = _Poller(settings, http, hand, stop, extended=membership.extended)
        interval = await unless_stopped(poller.register(), stop)
        if interval is None:
            return
        async with background(poller.beat(interval)):
            log.info("ready to grade", grader=settings.grader_id, slots=settings.slots, way="polling")
            for spooled in hand.spool:
                await unless_stopped(poller.report(spooled), stop)
            await poller.work()
        await poller.leave()


@dataclass(slots=True)
class _Poller:
    settings: GraderSettings
    http: httpx2.AsyncClient
    hand: Hand
    stop: asyncio.Event
    extended: bool
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    registering: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return self.settings.grader_id

    async def register(self) -> float:
        """Be taken on, however long it takes; the seconds between heartbeats."""
        has_told = False
        query = {"pool": self.settings.pool} if self.extended and self.settings.pool != "default" else {}
        async for _ in _patiently():
            with contextlib.suppress(_AgainError):
                answer = await self._ask("POST", f"worker/{self.name}", {"hostname": hostname()}, params=query)
                if answer.is_success:
                    log.info("registered", grader=self.name)
                    return float(answer.json()["data"]["heartbeat"] or HEARTBEAT_UNTOLD)
                if answer.status_code == httpx2.codes.UNAUTHORIZED:
                    raise refused_token(self.settings.api_host)
                if not has_told:
                    log.warning("not taken on yet", grader=self.name, reason=answer.text[:200])
                    has_told = True
        raise AssertionError  # patience has no end

    async def beat(self, interval: float) -> None:
        """Say at intervals that this grader lives, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self._checked("POST", f"heartbeat/{self.name}")
            except _UnknownWorkerError:
                await self._register_again()
            except _AgainError as error:
                log.warning("heartbeat not heard", reason=str(error))

    async def work(self) -> None:
        """Fill the slots until told to stop; what runs then has its time to end, and is cancelled after that."""
        slots = [asyncio.create_task(self._fill_slot()) for _ in range(self.settings.slots)]
        try:
            stopped = asyncio.create_task(self.stop.wait())
            await asyncio.wait([*slots, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            await asyncio.wait(slots, timeout=self.settings.drain_timeout)
        finally:
            await end(*slots)
        for slot in slots:
            if not slot.cancelled():
                slot.result()

    async def _fill_slot(self) -> None:
        while not self.stop.is_set():
            async with self.asking:
                job = await self._next()
            if job is not None:
                await self.report(await self.hand.work(job))

    async def _next(self) -> JobMessage | None:
        """A job, or None when there is none just now or it is time to stop."""
        if self.stop.is_set():
            return None
        # Hanging up on our own server loses no job; the original's would take it for started.
        asked = await unless_stopped(self._poll(), self.stop) if self.extended else await self._poll()
        if asked is None and not self.stop.is_set():
            pause = PAUSE_AFTER_LONG_POLL if self.extended else PAUSE
            await unless_stopped(asyncio.sleep(pause), self.stop)
        return asked

    async def _poll(self) -> JobMessage | None:
        headers = {"Prefer": f"wait={LONG_POLL}"} if self.extended else {}
        timeout = LONG_POLL + 10.0
        try:
            answer = await self._checked("GET", f"grading_job/{self.name}", headers=headers, timeout=timeout)
        except _UnknownWorkerError:
            await self._register_again()
            return None
        except _AgainError as error:
            log.warning("poll not answered", reason=str(error))
            return None
        if answer.status_code == NO_JOB:
            return None
        return JobMessage.model_validate(answer.json()["data"])

    async def report(self, result: JobResult) -> None:
        """Return when the server has the result, or does not want it."""
        body = result.body(extended=self.extended)
        async for _ in _patiently():
            try:
                answer = await self._checked("POST", f"grading_job/{self.name}", body, timeout=120.0)
            except _UnknownWorkerError:
                await self._register_again()
                continue
            except _AgainError as error:
                log.warning("result not taken yet", job=result.job_id, reason=str(error))
                continue
            if answer.is_error:
                log.warning("result not wanted", job=result.job_id, reason=answer.text[:200])
            self.hand.spool.remove(result)
            return

    async def leave(self) -> None:
        """Say goodbye, so that what was given up starts elsewhere at once; the original has no word for it."""
        if self.extended:
            with contextlib.suppress(httpx2.HTTPError):
                await self.http.delete(f"/api/v2/graders/{self.name}", timeout=GOODBYE_WITHIN)

    async def _register_again(self) -> None:
        if self.registering.locked():
            async with self.registering:
                return  # somebody just has
        async with self.registering:
            await self.register()

    async def _checked(self, method: str, path: str, body: object = None, **more: object) -> httpx2.Response:
        """An answer that says something about what was asked.

        Raises:
            _UnknownWorkerError: The server has no record of this grader.
            _AgainError: There is no such answer now.
        """
        answer = await self._ask(method, path, body, **more)
        if answer.status_code == httpx2.codes.UNAUTHORIZED:
            if "worker not found" in answer.text:
                raise _UnknownWorkerError
            raise _AgainError(answer.text[:200])
        return answer

    async def _ask(self, method: str, path: str, body: object = None, **more: object) -> httpx2.Response:
        try:
            answer = await self.http.request(method, f"/api/v1/{path}", json=body, **more)  # type: ignore[arg-type]
        except httpx2.HTTPError as error:
            raise _AgainError(f"{type(error).__name__}: {error}") from error
        if answer.is_server_error or answer.status_code == httpx2.codes.REQUEST_TIMEOUT:
            raise _AgainError(f"status {answer.status_code}")
        return answer


async def _patiently() -> AsyncIterator[int]:
    """Attempts without end, with ever longer pauses between them."""
    for number in itertools.count():
        yield number
        longest = min(LONGEST_PAUSE, PAUSE_AFTER_FAILURE * 1.5 ** min(number, 10))
        await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - graders should not come in step

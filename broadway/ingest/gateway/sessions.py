"""Sessions of graders behind the gateway: registration, heartbeats, and all kinds of end."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import structlog

from broadway.domain.abilities import abilities_of
from broadway.domain.bounds import MAX_ID
from broadway.domain.grader import MAX_SLOTS, Grader
from broadway.domain.job import Job
from broadway.ingest.gateway.changes import JobChanges
from broadway.ingest.gateway.ports import GatewayGraders, GatewayJobs
from broadway.lifecycle.recording import UNUSED
from broadway.messages.events import GraderHeartbeat, JobReleased, RunningJob, ids_of
from broadway.messages.topology import event_key
from broadway.ports import StoreError
from broadway.runtime import clock
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

SILENT_INTERVALS = 2  # heartbeat intervals; a grader that is silent for longer is dead


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of graders that speak HTTP or WebSocket with one API process.

    Args:
        name: The name of this process, which it keeps across restarts.
        graders: The stored graders.
        jobs: The stored jobs.
        changes: Moves jobs of graders that have gone.
        interval: Seconds between heartbeats.
        lease: The time for which a heartbeat renews the lease of a job.
    """

    name: str
    graders: GatewayGraders
    jobs: GatewayJobs
    changes: JobChanges
    interval: int
    lease: timedelta

    @property
    def patience(self) -> timedelta:
        """The time after which a silent grader is dead."""
        return timedelta(seconds=SILENT_INTERVALS * self.interval)

    async def run(self) -> None:
        """End the sessions of graders that have gone silent, until cancelled."""
        await self.graders.mark_sockets_dead(self.name)
        # No heartbeat could arrive while this process was down: all graders get the full time again.
        await asyncio.sleep(self.patience.total_seconds())
        while True:
            await asyncio.sleep(self.interval)
            try:
                await self._sweep(datetime.now(UTC) - self.patience)
            except StoreError as error:
                log.warning("silent graders not looked for", reason=str(error))

    async def _sweep(self, moment: datetime) -> None:
        for grader in await self.graders.silent_behind_gateways(moment):
            with isolated("sessions", grader=grader.id):
                if await self.graders.mark_dead(grader.id, silent_since=moment):
                    log.warning("grader has gone silent", grader=grader.id)
                    await self._lose(grader)

    async def register(
        self,
        grader_id: str,
        *,
        hostname: str,
        pool: str,
        over_socket: bool,
        extended: bool,
        runtime: str = "",
        abilities: Sequence[str] = (),
        running: Sequence[str] = (),
    ) -> Grader | None:
        """Store a grader's new session; return None while a live grader has its id.

        ``running`` are ids of jobs that it still runs from an earlier session; it keeps those that it still holds.
        """
        now = clock.now()
        resumed = [job for job in await self.jobs.held_by(grader_id) if job.id in running] if running else []
        grader = Grader(
            id=grader_id,
            hostname=hostname,
            alive=True,
            last_seen=now,
            registered_at=min([now, *(a.started_at for job in resumed for a in job.attempts)]),
            pool=pool,
            session=token_hex(8),
            over_socket=over_socket,
            gateway=self.name,
            extended=extended,
            runtime=runtime,
            abilities=tuple(abilities),
        )
        if not await self.graders.register(grader):
            return None
        log.info("grader registered", grader=grader_id, hostname=hostname, pool=pool, over_socket=over_socket)
        for job in resumed:
            await self.graders.hand_out(grader_id, job.id)
        await self.beat(grader)
        return grader

    async def known(self, grader_id: str) -> Grader | None:
        """Return a grader, alive or not, behind a gateway or not; None if it is unknown."""
        return await self.graders.get(grader_id)

    async def admitted(self, grader_id: str) -> Grader | None:
        """Return a grader as ``known`` does.

        Raises:
            RevokedError: The grader has been revoked.
        """
        grader = await self.known(grader_id)
        if grader is not None:
            grader.demand_admitted()
        return grader

    async def beat(self, grader: Grader) -> None:
        """Record a grader's heartbeat, and renew the leases of its session's jobs that are before their deadlines."""
        now = datetime.now(UTC)
        await self.graders.seen(grader, now)
        held = [job for job in await self.jobs.held_by(grader.id) if _is_under_way(job, grader, now)]
        if held:
            executions = [job.execution_id for job in held if job.execution_id]
            until = now + self.lease
            unless_after = until - self.lease * UNUSED
            await self.jobs.renew_leases(executions, [job.id for job in held], until, unless_after=unless_after)
        self._publish_heartbeat(grader, held)

    async def end(self, grader: Grader) -> None:
        """End a session whose connection is gone: the grader is dead at once, and its jobs start elsewhere."""
        if await self.graders.mark_dead(grader.id, session=grader.session):
            log.warning("grader has gone", grader=grader.id)
            await self._lose(grader)

    async def suspend(self, grader: Grader) -> None:
        """End a session without moving its jobs: the grader may report them in a later session."""
        await self.graders.mark_dead(grader.id, session=grader.session)

    async def leave(self, grader: Grader) -> None:
        """End a session with a goodbye: the grader's jobs start elsewhere, and their starts do not count."""
        await self.graders.mark_dead(grader.id, session=grader.session)
        held = await self.jobs.held_by(grader.id)
        await self.changes.put_back(grader, [(job.id, job.execution_id) for job in held if job.execution_id])
        self._publish_heartbeat(grader, [], leaving=True)

    async def revoke(self, grader_id: str) -> None:
        """End every session of a revoked grader: its jobs start elsewhere at once, and their starts do not count."""
        grader = await self.graders.get(grader_id)
        if grader is None:
            return
        await self.graders.mark_dead(grader.id)
        held = [job for job in await self.jobs.held_by(grader.id) if job.execution_id]
        if grader.gateway:
            await self.changes.put_back(grader, [(job.id, job.execution_id) for job in held if job.execution_id])
        else:  # the broker redelivers its messages to other graders
            for job in held:
                await self._publish_release(grader.id, job)
        self._publish_heartbeat(grader, [], leaving=True)

    async def _publish_release(self, grader_id: str, job: Job) -> None:
        released = JobReleased(
            **ids_of(job), execution_id=job.execution_id or "", grader_id=grader_id, released_at=datetime.now(UTC)
        )
        await self.changes.publish(event_key("job", "released", job.course), released)

    async def _lose(self, grader: Grader) -> None:
        await self.changes.requeue_jobs_of(grader)
        self._publish_heartbeat(grader, [], leaving=True)

    def _publish_heartbeat(self, grader: Grader, held: Sequence[Job], *, leaving: bool = False) -> None:
        held = held[:MAX_SLOTS]
        beat = GraderHeartbeat(
            grader_id=grader.id,
            hostname=grader.hostname[:MAX_ID],
            pool=grader.pool,
            slots=max(1, len(held)),
            running=[
                RunningJob(job_id=job.id, generation=job.generation, execution_id=job.execution_id)
                for job in held
                if job.execution_id
            ],
            leaving=leaving,
            runtime=grader.runtime,
            abilities=list(abilities_of(grader)),
            gateway=self.name,
            sent_at=datetime.now(UTC),
        )
        self.changes.publish_later(f"grader.heartbeat.{grader.id}", beat)


def _is_under_way(job: Job, grader: Grader, now: datetime) -> bool:
    """Return whether a job was handed to a grader in its present session and is before its deadline."""
    attempt = job.execution_of(grader.id)
    if attempt is None or attempt.execution_id != job.execution_id:
        return False
    is_of_session = grader.registered_at is None or attempt.started_at >= grader.registered_at
    return is_of_session and (attempt.deadline is None or now < attempt.deadline)

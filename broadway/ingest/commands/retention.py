"""Retention of courses: their rules, the passes that staff order, and the background steps that make all passes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from secrets import token_hex
from typing import Any, Protocol

import structlog

from broadway.domain.audit import AuditRecord, record_of_service
from broadway.domain.retention import CourseRules, Pass, Policy, State
from broadway.ingest.commands.audit import AuditLog
from broadway.ingest.commands.retention_pass import CoursePass, Old
from broadway.lifecycle.stores import CourseList, Leases
from broadway.ports import Retry, StoreError
from broadway.runtime import metrics
from broadway.runtime.clock import now
from broadway.runtime.isolation import isolated

log = structlog.get_logger(__name__)

LEASE = "retention"
TTL = timedelta(minutes=2)
MOST_APART = timedelta(hours=1)  # clocks of this host and of the store, beside rules in days
INTERVAL = 2.0  # seconds between two checks for ordered passes
LOOKED_AROUND = 60.0  # seconds between two checks for passes that are due by time
DEPLOYMENT = ""  # the scope of things without a course


class PassOrderedError(Exception):
    """A pass is ordered already, and has not ended."""


class PassEndedError(Retry):
    """A pass must not go on; it begins again later."""


class StoredStates(Protocol):
    """Stored states of retention by course; an empty course stands for things without one."""

    async def get(self, course: str) -> State:
        """Return the state of a course."""

    async def put_rules(self, course: str, rules: CourseRules) -> None:
        """Replace a course's own rules."""

    async def order(self, course: str, ordered: Pass) -> bool:
        """Store a pass that is to be made; return False, and change nothing, if another one is ordered."""

    async def end(self, course: str, ended: Pass) -> None:
        """Store the end of a pass."""

    async def ordered(self) -> list[State]:
        """Return the states with ordered passes, the earliest first."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The requests about retention."""

    states: StoredStates
    policy: Policy

    async def state(self, course: str) -> State:
        """Return the state of a course."""
        return await self.states.get(course)

    def in_force(self, state: State) -> Policy:
        """Return the rules that are in force for a course."""
        return self.policy.of_course(state.rules) if state.course else self.policy.of_deployment

    async def put_rules(self, course: str, rules: CourseRules) -> State:
        """Replace a course's own rules; return its state."""
        await self.states.put_rules(course, rules)
        return await self.states.get(course)

    async def order(self, course: str, *, by: str, is_dry: bool) -> Pass:
        """Order a pass, which the background steps make soon.

        Raises:
            PassOrderedError: One is ordered already.
        """
        ordered = Pass(token_hex(12), is_dry, now(), by)
        if not await self.states.order(course, ordered):
            raise PassOrderedError("a pass is under way; `broadway retention show` says when it has ended")
        return ordered


@dataclass(slots=True)
class RetentionSteps:
    """Makes the passes of all courses, in one process at a time, which holds the lease."""

    retention: Retention
    courses: CourseList
    leases: Leases
    audit: AuditLog
    old: Old
    holder: str
    between: timedelta
    clock_of_store: Callable[[], Awaitable[datetime]]
    _looked_at: datetime | None = None

    async def run(self) -> None:
        """Make passes as they are ordered, and for each course once in ``between``, until cancelled."""
        while True:
            try:
                await self.step()
            except (StoreError, Retry) as error:
                log.warning("retention interrupted; it goes on later", reason=str(error))
            await asyncio.sleep(INTERVAL)

    async def step(self) -> None:
        """Make the passes that are ordered or due.

        Raises:
            StoreError: The store is unavailable.
            PassEndedError: Another process has taken the lease, the rules have changed, or clocks differ.
        """
        scopes = [state.course for state in await self.retention.states.ordered()]
        moment = now()
        if self._looked_at is None or moment - self._looked_at > timedelta(seconds=LOOKED_AROUND):
            self._looked_at = moment
            scopes += [DEPLOYMENT, *(course.id for course in await self.courses.all())]
        is_held = False
        for scope in dict.fromkeys(scopes):
            state = await self.retention.states.get(scope)
            if state.ordered or self._is_due(state, moment):
                if not is_held and not await self.leases.acquire(LEASE, self.holder, TTL):
                    return
                is_held = True
                with isolated("retention", course=scope):
                    await self._make(await self.retention.states.get(scope))
        if is_held:
            await self.leases.release(LEASE, self.holder)

    def _is_due(self, state: State, moment: datetime) -> bool:
        ended_at = state.last.ended_at if state.last else None
        is_over = ended_at is None or moment - ended_at >= self.between
        return is_over and self.retention.in_force(state).removes

    async def _make(self, state: State) -> None:
        """Make one pass; one that is not ordered has no name of a person."""
        moment = now()
        if state.ordered is None and not self._is_due(state, moment):
            return
        ordered = state.ordered or Pass(token_hex(12), is_dry=False, ordered_at=moment)
        policy = self.retention.in_force(state)
        await self._demand_clock(moment)
        turn = partial(self._turn, state.course, policy)
        course_pass = CoursePass(self.old, state.course, policy, moment, ordered.is_dry, turn)
        counts = await course_pass.make()
        ended = replace(ordered, ended_at=now(), counts=dict(counts.numbers), kept=counts.kept)
        if not ended.is_dry:
            self._note(state.course, ended)
            if ended.counts:
                await self.audit.add(_record(state.course, ended, policy), is_urgent=True)
        await self.retention.states.end(state.course, ended)

    def _note(self, course: str, ended: Pass) -> None:
        metrics.RETENTION_PASSES.inc()
        for kind, number in ended.counts.items():
            metrics.RETENTION_REMOVED.labels(kind).inc(number)
        if ended.counts:
            log.info("removed by retention", course=course, **ended.counts)

    async def _demand_clock(self, moment: datetime) -> None:
        """Return if the store's clock shows about the same time: with a wrong one, all would be old enough.

        Raises:
            PassEndedError: It does not.
        """
        stored = await self.clock_of_store()
        if abs(stored - moment) > MOST_APART:
            shown = f"{moment.isoformat(timespec='seconds')}, that of the store {stored.isoformat(timespec='seconds')}"
            raise PassEndedError(f"nothing is removed: the clock of this host shows {shown}; set the wrong one")

    async def _turn(self, course: str, policy: Policy) -> None:
        """Keep the lease for one more batch, and let other tasks run.

        Raises:
            PassEndedError: Another process has the lease, or other rules are in force by now.
        """
        if not await self.leases.acquire(LEASE, self.holder, TTL):
            raise PassEndedError("another process holds the lease")
        if self.retention.in_force(await self.retention.states.get(course)) != policy:
            raise PassEndedError(f"the rules of {course or 'the deployment'} have changed")
        await asyncio.sleep(0)


def _record(course: str, ended: Pass, policy: Policy) -> AuditRecord:
    after: Mapping[str, Any] = {"removed": dict(ended.counts), "kept": dict(ended.kept), "ordered_by": ended.by}
    return record_of_service(
        ended.id,
        ended.ended_at or ended.ordered_at,
        name="retention",
        operation="retention.pass",
        about=f"/api/v2/courses/{course}/retention" if course else "/api/v2/retention",
        course=course or None,
        given={"rules": asdict(policy)},
        after=after,
    )

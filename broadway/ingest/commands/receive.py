"""What comes of a webhook's delivery: it is stored, then decided, then a run. Pure of HTTP.

Whatever happens after a delivery is stored, somebody decides it: the request that brought it, the same delivery coming
again, or the sweep.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from broadway.domain.roster import RosterEntry
from broadway.domain.webhook import (
    Delivery,
    DeliveryState,
    Hook,
    Ignored,
    Push,
    Quota,
    delivery_key,
    job_env,
    quota_key,
    submission_key,
)
from broadway.ingest.commands.limits import RejectedError
from broadway.ingest.commands.stores import DeliveryStore, Quotas, RecentHooks, RecentRosters
from broadway.ingest.commands.submit import KeyReusedError, RunRequest, Submission, Submissions, run_id_of
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.orders import Orders, RunIsBusyError
from broadway.lifecycle.steps import RunSteps
from broadway.lifecycle.stores import CoursesById
from broadway.ports import Retry, StoreError, UnstorableError
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

DECIDE_GRACE = timedelta(seconds=10)  # until the sweep decides what its request has not
ANSWER_WITHIN = 0.7  # seconds; a decision that takes longer is finished after the answer
SWEEP_INTERVAL = 5.0  # seconds
SWEEP = 100  # deliveries at a time
KEPT_BODY = 64 * 1024  # bytes of a body that are kept for staff to look at


@dataclass(frozen=True, slots=True)
class Receiver:
    """Stores deliveries, then decides them."""

    courses: CoursesById
    hooks: RecentHooks
    rosters: RecentRosters
    deliveries: DeliveryStore
    quotas: Quotas
    runs: RunSteps
    submissions: Submissions
    orders: Orders
    announcements: Announcements
    answer_within: float = ANSWER_WITHIN

    async def receive(
        self, hook: Hook, message: Push | Ignored, *, delivery_id: str, body: bytes, traceparent: str | None = None
    ) -> tuple[Delivery, bool]:
        """Store a delivery, then decide it if that does not take long; return it, and whether it was undecided.

        Raises:
            UnstorableError: The delivery is too large for the store; nothing is stored.
        """
        delivery, is_new = await self.keep(hook, message, delivery_id=delivery_id, body=body, traceparent=traceparent)
        return await self._decide_soon(delivery), is_new

    async def receive_again(self, delivery: Delivery) -> tuple[Delivery, bool]:
        """Decide a delivery again, unless its decision is final; return it, and whether it was decided again."""
        delivery, is_new = await self.reopen(delivery)
        return await self._decide_soon(delivery), is_new

    async def _decide_soon(self, delivery: Delivery) -> Delivery:
        """Return a delivery as decided, or as stored if that takes long: a stored delivery is not lost."""
        deciding = asyncio.create_task(self.decide_if_possible(delivery))
        done, _ = await asyncio.wait({deciding}, timeout=self.answer_within)
        if not done:
            self.announcements.later(_finish(deciding))
            return delivery
        return deciding.result() or delivery

    async def keep(
        self, hook: Hook, message: Push | Ignored, *, delivery_id: str, body: bytes, traceparent: str | None = None
    ) -> tuple[Delivery, bool]:
        """Store a delivery, unless it has come before; as it is stored, and whether it is to be decided.

        So is one that came to nothing that lasts, such as a quota that was used up.

        Raises:
            UnstorableError: It is too large for the store; nothing is stored.
        """
        now = _now()
        pushed = isinstance(message, Push)
        delivery, is_new = await self.deliveries.keep(
            Delivery(
                id=delivery_key(hook.course, hook.name, delivery_id),
                course=hook.course,
                hook=hook.name,
                assignment=hook.config.assignment,
                delivery_id=delivery_id,
                received_at=now,
                state=DeliveryState.RECEIVED if pushed else DeliveryState.IGNORED,
                push=message if isinstance(message, Push) else None,
                reason="" if isinstance(message, Push) else message.reason,
                due_at=now + DECIDE_GRACE if pushed else None,
                body=body.decode("utf-8", "replace") if len(body) <= KEPT_BODY else None,
                traceparent=traceparent,
            )
        )
        if not is_new:
            return await self.reopen(delivery)
        metrics.WEBHOOK_DELIVERIES.labels(delivery.course, delivery.state).inc()
        return delivery, True

    async def reopen(self, delivery: Delivery) -> tuple[Delivery, bool]:
        """Let a delivery be decided anew, unless what it came to lasts; and whether it is. It keeps its first time."""
        if delivery.is_final or delivery.state is DeliveryState.RECEIVED:
            return delivery, False
        return await self._move(delivery, DeliveryState.RECEIVED, due_at=_now() + DECIDE_GRACE), True

    async def decide(self, delivery: Delivery) -> Delivery:
        """Find out what a delivery comes to, and let it come to that. Safe to repeat, and to do by several at once."""
        if delivery.due_at is None or delivery.push is None:
            return delivery
        hook = await self.hooks.recent(delivery.course, delivery.hook)
        if hook is None:
            return await self._settle(delivery, DeliveryState.REFUSED, reason="the hook has been removed")
        if delivery.state is DeliveryState.RECEIVED:
            delivery = await self._submit(delivery, delivery.push, hook)
        if delivery.state is DeliveryState.ACCEPTED and delivery.due_at:
            if hook.config.only_latest:
                await self._supersede(delivery)
            delivery, _ = await self.deliveries.move(delivery, due_at=None)
        return delivery

    async def decide_if_possible(self, delivery: Delivery) -> Delivery | None:
        """As ``decide``; None if that does not succeed now, whatever the reason: the delivery stays due."""
        try:
            return await self.decide(delivery)
        except (StoreError, RunIsBusyError, Retry) as error:
            log.warning("delivery not decided yet", delivery=delivery.id, reason=str(error), **delivery.context)
        except Exception:  # no delivery may keep others from being decided
            log.exception("delivery not decided", delivery=delivery.id, **delivery.context)
        return None

    async def run(self) -> None:
        """Decide what others have left undecided, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            try:
                for delivery in await self.deliveries.undecided(_now(), limit=SWEEP):
                    await self._decide_late(delivery)
            except (StoreError, Retry) as error:
                log.warning("deliveries not looked after", reason=str(error))

    async def _decide_late(self, delivery: Delivery) -> None:
        decided = await self.decide_if_possible(delivery)
        if decided is None:  # those behind it come first now
            await self.deliveries.move(delivery, due_at=_now() + DECIDE_GRACE)
            return
        metrics.REPAIRS.labels(metrics.Repair.DELIVERY).inc()
        log.warning("repair: delivery decided late", delivery=decided.id, state=decided.state.value, **decided.context)

    async def _submit(self, delivery: Delivery, push: Push, hook: Hook) -> Delivery:
        """Make the run of a submission, if there is to be one."""
        if push.ref and not hook.config.takes(push.ref):
            reason = f"{push.ref} is none of the branches and tags of this hook"
            return await self._settle(delivery, DeliveryState.IGNORED, reason=reason)
        entry, student = await self._match(delivery, push)
        if student is None:
            return await self._settle(delivery, DeliveryState.UNMATCHED, reason=_nobody(push, delivery.assignment))
        key = submission_key(delivery.assignment, student, push.version)
        run_id = run_id_of(hook.course, key)
        told: dict[str, Any] = {"student": student, "run_id": run_id}
        known = await self.runs.summary(run_id)
        if known:
            return await self._settle_known(delivery, hook, known.trigger, **told)
        if hook.config.only_latest and (later := await self._later(delivery, student)):
            reason = f"a later submission came before it was looked at: {later}"
            return await self._settle(delivery, DeliveryState.SUPERSEDED, reason=reason, student=student)
        if hook.config.quota and (until := await self._may_submit_at(delivery, hook.config.quota, student, run_id)):
            reason = f"{hook.config.quota.submissions} submissions in {hook.config.quota.seconds:g} s are allowed"
            return await self._settle(delivery, DeliveryState.LIMITED, reason=reason, student=student, retry_at=until)
        return await self._start(delivery, push, hook, key, env=job_env(entry, push, delivery, student), **told)

    async def _may_submit_at(self, delivery: Delivery, quota: Quota, student: str, run_id: str) -> datetime | None:
        """Count a submission against the student's quota; when it may come again, if that is used up.

        It counts when it is decided, not when it came first: one that comes again later has its chance.
        """
        return await self.quotas.take(quota_key(delivery.course, delivery.assignment, student), run_id, quota, _now())

    async def _match(self, delivery: Delivery, push: Push) -> tuple[RosterEntry | None, str | None]:
        """Whose submission this is. A front-end names students itself, and may do so without a roster."""
        roster = await self.rosters.recent(delivery.course, delivery.assignment)
        if push.student is None:
            entry = roster.of_repository(push.repository_id, push.repository or "") if roster else None
        else:
            entry = roster.of_student(push.student) if roster else None
            if roster is None:
                return None, push.student
        return entry, entry.student if entry else None

    async def _start(
        self, delivery: Delivery, push: Push, hook: Hook, key: str, *, env: dict[str, Any], **told: Any
    ) -> Delivery:
        course = await self.courses.get(delivery.course)
        if course is None:
            return await self._settle(delivery, DeliveryState.REFUSED, reason="there is no such course", **told)
        trigger = {
            "hook": delivery.hook,
            "delivery": delivery.id,
            "student": told["student"],
            "version": push.version,
            "ref": push.ref,
            "received_at": delivery.received_at,
        }
        try:
            wanted = RunRequest(students_env=[env])
            submission = Submission(course, delivery.assignment, wanted, trigger, delivery.traceparent)
            submitted = await self.submissions.submit(submission, key=key)
        except RejectedError as error:
            return await self._settle(delivery, DeliveryState.REFUSED, reason=str(error), student=told["student"])
        except UnstorableError as error:
            reason = f"the submission's run {error}"
            return await self._settle(delivery, DeliveryState.REFUSED, reason=reason, student=told["student"])
        except KeyReusedError:  # somebody has made it meanwhile
            known = await self.runs.summary(told["run_id"])
            return await self._settle_known(delivery, hook, known.trigger if known else None, **told)
        if submitted.step:
            self.announcements.step(submitted.step)
        return await self._accept(delivery, hook, **told)

    async def _settle_known(self, delivery: Delivery, hook: Hook, trigger: Any, **told: Any) -> Delivery:
        """There is a run of this submission: by this delivery, or by another one."""
        if trigger and trigger.get("delivery") == delivery.id:
            return await self._accept(delivery, hook, **told)
        return await self._settle(delivery, DeliveryState.DUPLICATE, reason="this was submitted before", **told)

    async def _accept(self, delivery: Delivery, hook: Hook, **told: Any) -> Delivery:
        """It is a run now. If that supersedes others, the delivery stays due until they are ended."""
        due_at = delivery.due_at if hook.config.only_latest else None
        return await self._move(delivery, DeliveryState.ACCEPTED, due_at=due_at, **told)

    async def _later(self, delivery: Delivery, student: str) -> str | None:
        """The version of a later submission of the student, if there is one."""
        accepted = await self.deliveries.of_student(delivery.course, delivery.assignment, student)
        later = [each for each in accepted if each.received_at > delivery.received_at]
        return later[-1].push.version if later and later[-1].push else None

    async def _supersede(self, delivery: Delivery) -> None:
        """End the student's earlier runs that have not started."""
        if delivery.student is None:
            return  # an accepted delivery names one
        accepted = await self.deliveries.of_student(delivery.course, delivery.assignment, delivery.student)
        for earlier in accepted[:-1]:
            if earlier.run_id:
                await self.orders.supersede(earlier.run_id)

    async def _settle(self, delivery: Delivery, state: DeliveryState, **changes: Any) -> Delivery:
        return await self._move(delivery, state, due_at=None, **changes)

    async def _move(self, delivery: Delivery, state: DeliveryState, **changes: Any) -> Delivery:
        moved, is_moved = await self.deliveries.move(
            delivery, **{"reason": "", "retry_at": None, **changes, "state": state}
        )
        if not is_moved:  # another one, at the same time, has decided what it comes to
            return moved
        metrics.WEBHOOK_DELIVERIES.labels(moved.course, moved.state).inc()
        log.info(
            "delivery",
            delivery=moved.id,
            hook=f"{moved.course}/{moved.hook}",
            state=moved.state.value,
            **moved.context,
        )
        return moved


async def _finish(deciding: asyncio.Task[Delivery | None]) -> None:
    await deciding


def _nobody(push: Push, assignment: str) -> str:
    who = f"student {push.student}" if push.student is not None else f"repository {push.repository}"
    return f"{who} is not in the roster of {assignment}"


def _now() -> datetime:
    """With the precision that the store keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)

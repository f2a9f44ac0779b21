"""The decision of a delivery: whether its push is a submission, and the start of its run. Pure of HTTP."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from broadway.domain.callback import CallbackEvent
from broadway.domain.job import Outcome
from broadway.domain.roster import RosterEntry
from broadway.domain.run import Run
from broadway.domain.submission import UPLOADS
from broadway.domain.webhook import (
    Delivery,
    DeliveryState,
    Hook,
    Push,
    Quota,
    job_env,
    quota_key,
    submission_key,
)
from broadway.ingest.commands.backlogs import RETRY_AFTER, BacklogFullError
from broadway.ingest.commands.limits import RejectedError
from broadway.ingest.commands.stores import DeliveryStore, HandInRules, Quotas, RecentHooks
from broadway.ingest.commands.submit import KeyReusedError, NewRun, NewRuns, RunRequest, run_id_of
from broadway.lifecycle.announce import Announcements
from broadway.lifecycle.callbacks import CallbackOutbox
from broadway.lifecycle.orders import Orders
from broadway.lifecycle.steps import RunSteps
from broadway.lifecycle.stores import CoursesById, JobsOfRuns, RecentRosters
from broadway.ports import UnstorableError
from broadway.runtime import metrics
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point, reach

log = structlog.get_logger(__name__)

MAX_BEGINNINGS = 50  # runs of one commit of a student, each after the last one was cancelled or superseded

_DISCARDED = (Outcome.CANCELLED, Outcome.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Decider:
    """Decides stored deliveries, and starts the runs of those that are submissions."""

    courses: CoursesById
    hooks: RecentHooks
    rosters: RecentRosters
    deliveries: DeliveryStore
    quotas: Quotas
    runs: RunSteps
    jobs: JobsOfRuns
    new_runs: NewRuns
    orders: Orders
    announcements: Announcements
    rules: HandInRules
    outbox: CallbackOutbox

    async def decide(self, delivery: Delivery) -> Delivery:
        """Decide a delivery, and start its run if it is accepted. Safe to repeat, and to run concurrently."""
        if delivery.due_at is None or delivery.push is None:
            return delivery
        hook = await self.hooks.recent(delivery.course, delivery.hook)
        if hook is None:
            return await self._settle(delivery, DeliveryState.REFUSED, reason="the hook has been removed")
        if delivery.state is DeliveryState.RECEIVED:
            delivery = await self._submit(delivery, delivery.push, hook)
            await reach(Point.PUSH_DECIDED)
        if delivery.state is DeliveryState.ACCEPTED and delivery.due_at:
            if hook.config.only_latest:
                await self._supersede(delivery)
            await reach(Point.PUSH_SUPERSEDED)
            delivery, _ = await self.deliveries.move(delivery, due_at=None)
        return delivery

    async def _submit(self, delivery: Delivery, push: Push, hook: Hook) -> Delivery:
        """Start the run of a submission, or store the reason why it has no run of its own."""
        if push.ref and not hook.config.takes(push.ref):
            reason = f"{push.ref} is none of the branches and tags of this hook"
            return await self._settle(delivery, DeliveryState.IGNORED, reason=reason)
        entry, student = await self._match(delivery, push)
        if student is None:
            return await self._settle_unmatched(delivery, push)
        key, known = await self._submitted_before(delivery, push, student)
        run_id = run_id_of(hook.course, key)
        fields: dict[str, Any] = {"student": student, "run_id": run_id}
        if known:
            return await self._settle_known(delivery, hook, known.trigger, **fields)
        if refusal := await self._refused_variables(delivery, push, hook, entry):
            return await self._settle(delivery, DeliveryState.REFUSED, reason=refusal, student=student)
        if settled := await self._settle_unless_due(delivery, hook, student, run_id):
            return settled
        return await self._start(delivery, push, hook, key, env=job_env(entry, push, delivery, student), **fields)

    async def _settle_unmatched(self, delivery: Delivery, push: Push) -> Delivery:
        """Settle a delivery that fits no entry of the roster; the event is stored before, so that no crash loses it."""
        reason = _unmatched(push, delivery.assignment)
        await self.outbox.emit(
            CallbackEvent.hook_unmatched(delivery.course, delivery.hook, delivery.id, reason=reason, at=now())
        )
        return await self._settle(delivery, DeliveryState.UNMATCHED, reason=reason)

    async def _settle_unless_due(self, delivery: Delivery, hook: Hook, student: str, run_id: str) -> Delivery | None:
        """Settle a submission that a later one, the policy or the quota keeps from a run; return None for any other."""
        if hook.config.only_latest and (later := await self._later(delivery, student)):
            reason = f"a later submission came before it was looked at: {later}"
            return await self._settle(delivery, DeliveryState.SUPERSEDED, reason=reason, student=student)
        if not hook.name.startswith(UPLOADS):  # an upload was taken when it was stored
            ruling = await self.rules.ruling(hook.course, delivery.assignment, student, delivery.received_at)
            if not ruling.is_taken:
                return await self._settle(delivery, DeliveryState.REFUSED, reason=ruling.text, student=student)
        if hook.config.quota and (until := await self._may_submit_at(delivery, hook.config.quota, student, run_id)):
            reason = f"{hook.config.quota.submissions} submissions in {hook.config.quota.seconds:g} s are allowed"
            return await self._settle(delivery, DeliveryState.LIMITED, reason=reason, student=student, retry_at=until)
        return None

    async def _refused_variables(
        self, delivery: Delivery, push: Push, hook: Hook, entry: RosterEntry | None
    ) -> str | None:
        """Return the reason why a delivery may not set its variables, or None."""
        if not push.delivered:
            return None
        config = await self.new_runs.assignments.get(delivery.course, delivery.assignment)
        stages = (config or {}).get("student_pipeline") or []
        layers = [(config or {}).get("env"), *(stage.get("env") for stage in stages if stage), entry and entry.env]
        return hook.refuses(push, taken={name for env in layers for name in env or {}})

    async def _submitted_before(self, delivery: Delivery, push: Push, student: str) -> tuple[str, Run | None]:
        """Return the idempotency key of a submission, and the run that has the key already, or None.

        A commit whose run was cancelled or superseded may be submitted again, as by a push that takes later ones back:
        each time it gets the next key.
        """
        for beginning in range(1, MAX_BEGINNINGS + 1):
            key = submission_key(delivery.assignment, student, push.version, beginning=beginning)
            known = await self.runs.summary(run_id_of(delivery.course, key))
            if (
                known is None
                or _triggered(known.trigger, delivery)
                or not await self._is_discarded(known, delivery, student)
            ):
                break
        return key, known

    async def _is_discarded(self, run: Run, delivery: Delivery, student: str) -> bool:
        """Return whether a run was cancelled or superseded, or will be by a submission between it and a delivery."""
        if not (run.state.is_terminal or run.order):
            accepted = await self.deliveries.of_student(delivery.course, delivery.assignment, student)
            earlier = [each.run_id for each in accepted if each.received_at < delivery.received_at]
            if run.id not in earlier or earlier[-1] == run.id:
                return False
            hook = await self.hooks.recent(delivery.course, delivery.hook)
            if hook and hook.config.only_latest:
                await self.orders.supersede(run.id)
        is_ending = run.order is not None and run.order.ends_run
        return is_ending or any(job.outcome in _DISCARDED for job in await self.jobs.of_run(run.id))

    async def _may_submit_at(self, delivery: Delivery, quota: Quota, student: str, run_id: str) -> datetime | None:
        """Count a submission against the student's quota; if that is used up, return the time of the next free place.

        The time of the decision counts, not that of the first arrival: a later redelivery may be accepted.
        """
        return await self.quotas.take(quota_key(delivery.course, delivery.assignment, student), run_id, quota, now())

    async def _match(self, delivery: Delivery, push: Push) -> tuple[RosterEntry | None, str | None]:
        """Return the submission's roster entry and student, or None for each that is unknown.

        A front-end names the student itself, and needs no roster.
        """
        roster = await self.rosters.recent(delivery.course, delivery.assignment)
        if push.student is None:
            entry = roster.of_repository(push.repository_id, push.repository or "") if roster else None
        else:
            entry = (roster.of_student(push.student) or roster.of_person(push.student)) if roster else None
            if roster is None:
                return None, push.student
        return entry, entry.student if entry else None

    async def _start(
        self, delivery: Delivery, push: Push, hook: Hook, key: str, *, env: dict[str, Any], **fields: Any
    ) -> Delivery:
        course = await self.courses.get(delivery.course)
        if course is None:
            return await self._settle(delivery, DeliveryState.REFUSED, reason="there is no such course", **fields)
        trigger = {
            "hook": delivery.hook,
            "delivery": delivery.id,
            "student": fields["student"],
            "version": push.version,
            "ref": push.ref,
            "received_at": delivery.received_at,
        }
        try:
            request = RunRequest(students_env=[env])
            new_run = NewRun(course, delivery.assignment, request, trigger, delivery.traceparent)
            stored = await self.new_runs.submit(new_run, key=key)
        except BacklogFullError as error:
            until = now() + timedelta(seconds=RETRY_AFTER)
            why = {"reason": str(error), "retry_at": until, "student": fields["student"]}
            return await self._settle(delivery, DeliveryState.LIMITED, **why)
        except RejectedError as error:
            return await self._settle(delivery, DeliveryState.REFUSED, reason=str(error), student=fields["student"])
        except UnstorableError as error:
            reason = f"the submission's run {error}"
            return await self._settle(delivery, DeliveryState.REFUSED, reason=reason, student=fields["student"])
        except KeyReusedError:  # a concurrent delivery of the submission started the run first
            known = await self.runs.summary(fields["run_id"])
            return await self._settle_known(delivery, hook, known.trigger if known else None, **fields)
        await reach(Point.PUSH_RUN_STORED)
        if stored.step:
            self.announcements.step(stored.step)
        return await self._accept(delivery, hook, **fields)

    async def _settle_known(self, delivery: Delivery, hook: Hook, trigger: Any, **fields: Any) -> Delivery:
        """Accept a delivery that started the known run itself; settle any other one as a duplicate."""
        if _triggered(trigger, delivery):
            # This delivery may be a repetition of one that was removed: its first arrival counts.
            fields |= {"received_at": trigger["received_at"]} if trigger.get("received_at") else {}
            return await self._accept(delivery, hook, **fields)
        return await self._settle(delivery, DeliveryState.DUPLICATE, reason="this was submitted before", **fields)

    async def _accept(self, delivery: Delivery, hook: Hook, **fields: Any) -> Delivery:
        """Store that a delivery has a run. If it supersedes earlier runs, it stays due until they are cancelled."""
        due_at = delivery.due_at if hook.config.only_latest else None
        return await self._move(delivery, DeliveryState.ACCEPTED, due_at=due_at, **fields)

    async def _later(self, delivery: Delivery, student: str) -> str | None:
        """Return the version of the student's latest submission if it arrived after this delivery."""
        accepted = await self.deliveries.of_student(delivery.course, delivery.assignment, student)
        later = [each for each in accepted if each.received_at > delivery.received_at]
        return later[-1].push.version if later and later[-1].push else None

    async def _supersede(self, delivery: Delivery) -> None:
        """Cancel the student's earlier runs that have not started."""
        if delivery.student is None:
            return  # for the type checker: an accepted delivery has a student
        accepted = await self.deliveries.of_student(delivery.course, delivery.assignment, delivery.student)
        for earlier in accepted[:-1]:
            if earlier.run_id:
                await self.orders.supersede(earlier.run_id)

    async def _settle(self, delivery: Delivery, state: DeliveryState, **changes: Any) -> Delivery:
        return await self._move(delivery, state, due_at=None, **changes)

    async def _move(self, delivery: Delivery, state: DeliveryState, **changes: Any) -> Delivery:
        return await moved(delivery, state, deliveries=self.deliveries, **changes)


async def moved(delivery: Delivery, state: DeliveryState, *, deliveries: DeliveryStore, **changes: Any) -> Delivery:
    """Store a delivery's new state, and log and count it; return the delivery as stored, perhaps by another process."""
    stored, is_moved = await deliveries.move(delivery, **{"reason": "", "retry_at": None, **changes, "state": state})
    if is_moved:
        metrics.WEBHOOK_DELIVERIES.labels(stored.course, stored.state).inc()
        hook = f"{stored.course}/{stored.hook}"
        log.info("delivery", delivery=stored.id, hook=hook, state=stored.state.value, **stored.context)
    return stored


def _triggered(trigger: Any, delivery: Delivery) -> bool:
    return bool(trigger) and trigger.get("delivery") == delivery.id


def _unmatched(push: Push, assignment: str) -> str:
    submitter = f"student {push.student}" if push.student is not None else f"repository {push.repository}"
    return f"{submitter} is not in the roster of {assignment}"

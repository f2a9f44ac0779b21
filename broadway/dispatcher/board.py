"""The active dispatcher's view, in memory: held jobs, jobs to dispatch, jobs in flight, and graders' slots.

The view is a cache: after a restart it is rebuilt from the course queues and the database.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from broadway.dispatcher.fairshare import FairShare, JobCosts, Offer
from broadway.dispatcher.held import Grader, Held
from broadway.dispatcher.pace import Paces
from broadway.domain.abilities import OF_THE_FIRST, missing
from broadway.domain.course import MAX_CONCURRENCY, Course
from broadway.domain.job import Job, JobClass, JobState
from broadway.messages.events import GraderHeartbeat, RunningJob

DEFAULT_CAP = 64  # the least number of jobs in flight that a course without a cap may have


class Board:
    """The dispatcher's view of jobs, courses and graders.

    Args:
        ready_share: Share of a pool's slots for which jobs wait ready while no slot is free; at least one job. Up to
            four wait for each slot if they take almost no time, since larger batches are cheaper to hand out.
        interactive_share: Share of a pool's slots that bulk jobs leave free.
    """

    def __init__(self, *, ready_share: float = 0.25, interactive_share: float = 0.05) -> None:
        self._ready_share = ready_share
        self._interactive_share = interactive_share
        self._held: dict[str, Held] = {}
        self._dropped: dict[str, Held] = {}  # in flight while no message of theirs is held
        self._shares: dict[str, FairShare] = {}
        self._courses: dict[str, Course] = {}
        self._graders: dict[str, Grader] = {}
        self._without_grader: dict[str, Held] = {}  # jobs that need abilities which their pool lacks
        self._open: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()  # by course
        self._out: Counter[str] = Counter()  # also in flight, by pool
        self._bulk_in_flight: Counter[str] = Counter()
        self._ready: Counter[str] = Counter()
        self._in_flight_of_run: Counter[str] = Counter()
        self._paces = Paces()
        self.costs = JobCosts()
        self.changed = asyncio.Event()

    @property
    def held(self) -> dict[str, Held]:
        return self._held

    @property
    def pools(self) -> list[str]:
        return [pool for pool, share in self._shares.items() if share]

    @property
    def courses(self) -> list[str]:
        return list(self._courses)

    def set_courses(self, courses: Iterable[Course]) -> None:
        self._courses = {course.id: course for course in courses}
        self.changed.set()

    def hear(self, beat: GraderHeartbeat, *, now: datetime) -> None:
        """Store a grader's slots and running jobs; an older heartbeat never overwrites a newer one."""
        for running in beat.running:
            self._note_running(running, beat.pool, now)
        known = self._graders.get(beat.grader_id)
        if known and known.sent_at > beat.sent_at:
            return
        if beat.leaving:
            self._graders.pop(beat.grader_id, None)
        else:
            self._graders[beat.grader_id] = Grader(
                *(beat.pool, beat.slots, beat.sent_at, now, bool(beat.gateway)),
                abilities=frozenset(beat.abilities or OF_THE_FIRST),
            )
        self._offer_able()
        self.changed.set()

    def _note_running(self, running: RunningJob, pool: str, now: datetime) -> None:
        held = self._in(running.job_id, running.generation)
        if held is None or held.pool != pool:
            return
        held.hear(running.execution_id, now)
        is_new = all(attempt.execution_id != running.execution_id for attempt in held.latest.attempts)
        if held.in_flight and is_new:  # an earlier execution that still runs has not taken the ready job
            held.has_started = True
            self._fly(held, ready=False)

    def forget_graders(self, *, silent_since: datetime) -> None:
        """Stop counting the slots of graders without a heartbeat since ``silent_since``."""
        self._graders = {name: g for name, g in self._graders.items() if g.heard_at >= silent_since}
        self._offer_able()

    def slots(self, pool: str | None = None) -> int:
        """Return the number of live slots of a pool, or of all pools."""
        return sum(g.slots for g in self._graders.values() if pool in (None, g.pool))

    def slots_of(self, grader_id: str, pool: str) -> int | None:
        """Return the number of a grader's slots in a pool; None if it is not known there."""
        known = self._graders.get(grader_id)
        return known.slots if known and known.pool == pool else None

    def graders(self) -> Counter[str]:
        """Return the number of live graders by pool."""
        return Counter(grader.pool for grader in self._graders.values())

    def graders_without_slots(self) -> Counter[str]:
        """Return the number of live graders that take no jobs, by pool."""
        return Counter(grader.pool for grader in self._graders.values() if not grader.slots)

    def is_capped(self, course: str) -> bool:
        """Return whether a course has a cap of its own."""
        known = self._courses.get(course)
        return known is not None and known.concurrency is not None

    def cap(self, course: str) -> int:
        """Return how many jobs of a course may be in flight."""
        known = self._courses.get(course)
        if known and known.concurrency:
            return min(known.concurrency, MAX_CONCURRENCY)
        return min(max(DEFAULT_CAP, 2 * self.slots()), MAX_CONCURRENCY)

    def has_open(self, run_id: str) -> bool:
        """Return whether a held job of a run has not settled; if so, the run's phase is certainly incomplete."""
        return self._open[run_id] > 0

    def has_others_open(self, run_id: str) -> bool:
        """Return whether more than one held job of a run has not settled."""
        return self._open[run_id] > 1

    def keep(self, job: Job) -> Held:
        """Hold a job, in any state. A job that was handed over under an earlier message of it stays in flight."""
        flown = self._dropped.pop(job.id, None)
        if older := self._held.get(job.id):
            self._close(older)  # its message is obsolete and can be acknowledged
            flown = replace(older)
            self._clear(older)
        held = Held(job.id, job.run_id, job.course, job.job_class, job.pool, job.generation, job.revision, job)
        self._held[job.id] = held
        self._open[job.run_id] += 1
        if flown and flown.goes_on_with(job):
            held.heard, held.has_started = flown.heard, flown.has_started
            self._fly(held, ready=flown.is_ready)
            held.flown_revision, held.flown_at = flown.flown_revision, flown.flown_at
        self.observe(job)
        return held

    def drop(self, held: Held) -> None:
        """Stop holding a job, unless a newer message for it is held. Its message may be delivered once more."""
        is_open = not held.settled.is_set()
        self._close(held)
        if self._held.get(held.job_id) is held:
            if is_open and held.in_flight:
                self._dropped[held.job_id] = replace(held)
            self._clear(held)
            del self._held[held.job_id]
            self.changed.set()

    def observe(self, job: Job, *, now: datetime | None = None) -> None:
        """Update a held job from its document, unless a later revision is known.

        A job whose next attempt is not due yet is not offered.
        """
        held = self._held.get(job.id)
        if held is None or job.revision < held.revision:
            return
        stays_in_flight = held.goes_on_with(job)
        held.generation, held.revision, held.latest = job.generation, job.revision, job
        match job.state:
            case JobState.FINISHED:
                self._close(held)
            case JobState.RUNNING:
                held.has_started = True
                self._fly(held, ready=False)
                held.flown_revision = job.revision
            case JobState.DISPATCHED:  # a reported start may not be stored yet
                self._fly(held, ready=not held.has_started)
                held.flown_revision = job.revision
            case JobState.QUEUED if stays_in_flight:
                pass
            case JobState.QUEUED if job.not_before is None or (now and job.not_before <= now):
                self._wait(held, first=bool(job.attempts))
            case JobState.QUEUED:
                self._clear(held)

    def hand_over(self, job: Job) -> bool:
        """Note that a job goes to the graders of its pool now; return False if it is not in flight any more.

        A job that is not held has to be known as dispatched by the store.
        """
        held = self._held.get(job.id)
        if held is None:
            return job.state is JobState.DISPATCHED
        if not held.in_flight:
            return False
        held.flown_revision, held.flown_at = job.revision, datetime.now(UTC)
        return True

    def handed_over_before(self, moment: datetime) -> list[Job]:
        """Return the jobs that were handed over before a moment and are still stored as queued, as last read."""
        return [
            held.latest
            for held in self._held.values()
            if held.in_flight and held.latest.state is JobState.QUEUED and not held.settled.is_set()
            if held.flown_at is not None and held.flown_at < moment
        ]

    def start(self, job_id: str, generation: int, execution_id: str, *, now: datetime) -> None:
        """Mark a job as taken by a grader, unless it has come back from that execution."""
        held = self._in(job_id, generation)
        if held and not (held.latest.state is JobState.QUEUED and held.latest.knows(execution_id)):
            held.has_started = True
            held.hear(execution_id, now)
            self._fly(held, ready=False)

    def release(self, job_id: str, generation: int) -> None:
        """Mark a job as ready again, after a draining grader has released it."""
        if held := self._in(job_id, generation):
            held.has_started = False
            self._fly(held, ready=True)

    def has_started(self, job_id: str) -> bool:
        """Return whether a grader is known to have taken a held job."""
        held = self._held.get(job_id)
        return held is not None and held.has_started

    def last_heard(self, job: Job) -> datetime | None:
        """Return when a grader last reported an execution that may still end a job as running; None if never."""
        held = self._held.get(job.id)
        if held is None or held.generation != job.generation:
            return None
        ended = {attempt.execution_id for attempt in job.attempts if attempt.ended_at}
        return max((at for execution, at in held.heard.items() if execution not in ended), default=None)

    def settle(self, job_id: str, generation: int, *, course: str, seconds: float) -> None:
        """Record a final outcome after ``seconds`` in a slot, so that the course message can be acknowledged."""
        self.costs.observe(course, seconds)
        self._dropped.pop(job_id, None)
        held = self._held.get(job_id)
        if held and generation >= held.generation:
            self._paces.observe(held.run_id, seconds)
            self._close(held)

    def abandon(self, held: Held) -> None:
        """Settle a job that is missing from the database."""
        self._close(held)

    def set_back(self, job_id: str, generation: int, *, not_before: datetime) -> None:
        """Withdraw a job that ended without an outcome, until its next attempt is due, unless that is on its way."""
        if (held := self._in(job_id, generation)) and not held.knows_pause(not_before):
            self._clear(held)
            self.changed.set()

    def withhold(self, run_id: str) -> None:
        """Withdraw the jobs of a run; each is offered again when it is next read from the store as queued."""
        for held in self._held.values():
            if held.run_id == run_id and not held.has_started:
                self._clear(held)
        self.changed.set()

    def offer_again(self, job_id: str, generation: int) -> None:
        """Offer a job that waits for its next attempt, before the other jobs of its course."""
        if (held := self._in(job_id, generation)) and not held.in_flight:
            self._wait(held, first=True)

    def put_back(self, held: Held) -> None:
        """Offer a job that was picked and not handed over, before the other jobs of its course."""
        if self._held.get(held.job_id) is held:
            self._wait(held, first=True)

    def _in(self, job_id: str, generation: int) -> Held | None:
        """Return a job if it is held in a generation; events of other generations are out of date."""
        held = self._held.get(job_id)
        return held if held and held.generation == generation else None

    def pick(self, pool: str) -> Held | None:
        """Return the next job for a pool and count it as in flight and ready, or None if the pool is full."""
        while offer := self._shares[pool].pick(self._eligible(pool)):
            held = self._held[offer.job_id]
            if self._is_able(held):
                self._fly(held, ready=True)
                return held
            self._wait(held, first=False)
        return None

    def _eligible(self, pool: str) -> Callable[[Offer], bool]:
        """Return the condition on which a job may be released now.

        A pool must have a free slot for it, or fewer ready jobs than it may keep waiting. Free slots are derived from
        the jobs in flight. That number is too high while a dead grader counts as working, so a few jobs are kept ready
        regardless of it. A grader behind a gateway takes its next job only after its last result is stored; one ready
        job for each saves it the wait for this dispatcher as well.
        """
        slots = self.slots(pool)
        behind = sum(g.slots for g in self._graders.values() if g.is_behind_gateway and g.pool == pool)
        usual = max(1, behind, int(slots * self._ready_share))
        quick = slots - sum(number for run, number in self._in_flight_of_run.items() if not self._early_share(run))
        reserved = int(slots * self._interactive_share)

        def eligible(offer: Offer) -> bool:
            if self._in_flight[offer.course] >= self.cap(offer.course):
                return False
            early = int(max(0, quick) * self._early_share(self._held[offer.job_id].run_id))
            waiting = max(usual, early)
            if self._ready[pool] >= waiting and self._out[pool] >= slots + waiting:
                return False
            is_bulk = offer.job_class is JobClass.BULK
            return not (is_bulk and reserved) or self._bulk_in_flight[pool] < slots - reserved + early

        return eligible

    def _early_share(self, run_id: str) -> float:
        return self._paces.early(run_id, above=self._ready_share)

    def _share(self, pool: str) -> FairShare:
        if pool not in self._shares:
            self._shares[pool] = FairShare(weight=self._weight, cost=self.costs.relative)
        return self._shares[pool]

    def _weight(self, course: str) -> float:
        known = self._courses.get(course)
        return known.weight if known else 1.0

    def _wait(self, held: Held, *, first: bool) -> None:
        self._leave_flight(held)
        if not self._is_able(held):
            self._share(held.pool).withdraw(held.job_id)
            self._without_grader[held.job_id] = held
            return
        self._without_grader.pop(held.job_id, None)
        self._share(held.pool).offer(held.offer, first=first)
        self.changed.set()

    def _is_able(self, held: Held) -> bool:
        """Return whether a job may be handed out: one grader of its pool can run it, and each at the broker can.

        A grader at the broker takes any job of its pool, while a gateway keeps jobs from graders that cannot run them.
        Without a grader a job with needs waits, too: the first one to come may be of an earlier version.
        """
        needs = held.latest.needs
        if not needs:
            return True
        own = [grader for grader in self._graders.values() if grader.pool == held.pool]
        able = [grader for grader in own if not missing(needs, grader.abilities)]
        return bool(able) and all(grader in able for grader in own if not grader.is_behind_gateway)

    def _offer_able(self) -> None:
        """Offer the jobs that waited for a grader with their abilities, as far as there is one now."""
        for held in list(self._without_grader.values()):
            if self._is_able(held):
                self._wait(held, first=False)

    def _fly(self, held: Held, *, ready: bool) -> None:
        self._share(held.pool).withdraw(held.job_id)
        if not held.in_flight:
            held.in_flight, held.flown_revision, held.flown_at = True, held.revision, datetime.now(UTC)
            self._in_flight[held.course] += 1
            self._in_flight_of_run[held.run_id] += 1
            self._out[held.pool] += 1
            self._bulk_in_flight[held.pool] += held.job_class is JobClass.BULK
        if held.is_ready is not ready:
            held.is_ready = ready
            self._ready[held.pool] += 1 if ready else -1
            self.changed.set()

    def _close(self, held: Held) -> None:
        if not held.settled.is_set():
            held.settled.set()
            self._open[held.run_id] -= 1
            if not self._open[held.run_id]:
                del self._open[held.run_id]
                self._paces.forget(held.run_id)

    def _clear(self, held: Held) -> None:
        self._without_grader.pop(held.job_id, None)
        self._share(held.pool).withdraw(held.job_id)
        self._leave_flight(held)

    def _leave_flight(self, held: Held) -> None:
        held.has_started = False
        if held.in_flight:
            held.in_flight = False
            self._in_flight[held.course] -= 1
            self._in_flight_of_run[held.run_id] -= 1
            if not self._in_flight_of_run[held.run_id]:
                del self._in_flight_of_run[held.run_id]
            self._out[held.pool] -= 1
            self._bulk_in_flight[held.pool] -= held.job_class is JobClass.BULK
        if held.is_ready:
            held.is_ready = False
            self._ready[held.pool] -= 1

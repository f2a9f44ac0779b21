"""A model of the system around the real moves: messages are lost, doubled and reordered, processes crash.

An outcome is stored in two steps, as by ``MovedJobs``: the outcome itself, unless there is one, and then the job.

In every sequence, no outcome changes within a generation, no job succeeds twice in one round of its run, and no job
starts more often than allowed, as far as its starts are reported. Once the faults stop, every job ends, and so does the
run.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from harness import IS_WHOLE
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broadway.domain.job import Attempt, Execution, Job, JobState, Outcome, Phase, RetryPolicy
from broadway.domain.moves import Move, Moved
from broadway.domain.run import JobOutline, Order, OrderKind, Run, RunState, plan_jobs, rerun_order
from broadway.domain.settlement import Settlement, key_of

T0 = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=3, backoff=timedelta(seconds=1))
LEASE = timedelta(seconds=30)
PIPELINE = [{"image": "x"}]

picks = st.integers(0, 1_000_000)
lives = st.none() | st.integers(0, 2)  # steps of an order until its process dies; None: it survives
verdicts = st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED, Outcome.INFRASTRUCTURE_ERROR])


@dataclass(frozen=True)
class Ready:
    """A message in the ready queue."""

    job_id: str
    generation: int
    attempt: int


@dataclass
class RunningJob:
    """A grader's job: an unacknowledged message, and the report on it."""

    message: Ready
    execution_id: str
    grader: str
    started_at: datetime
    report: Execution | None = None


@dataclass
class Store:
    """The state that survives every fault."""

    run: Run
    jobs: dict[str, Job] = field(default_factory=dict)
    outcomes: dict[str, Settlement] = field(default_factory=dict)


class DiedError(Exception):
    """A process has died after it stored an outcome, and before it updated the job."""


class Deployment(RuleBasedStateMachine):
    """A run of two students with a phase before and one after them."""

    @initialize(pre=st.booleans(), post=st.booleans())
    def submit(self, pre: bool, post: bool) -> None:
        config = {"student_pipeline": PIPELINE}
        config |= {"pre_processing_pipeline": PIPELINE} if pre else {}
        config |= {"post_processing_pipeline": PIPELINE} if post else {}
        self.store = Store(Run("r", "c", "a", RunState.READY, T0, config, [{"S": "1"}, {"S": "2"}]))
        self.clock = T0
        self.names = (f"e{number}" for number in count())
        self.backlog: list[tuple[str, int]] = []
        self.held: list[tuple[str, int]] = []
        self.ready: list[Ready] = []
        self.flying: dict[tuple[str, int], Job] = {}  # as they were handed over; only the dispatcher knows
        self.working: list[RunningJob] = []
        self.spool: list[Execution] = []
        self.inbox: list[tuple[str, int, Move]] = []
        self.outcomes: dict[tuple[str, int], tuple[Outcome | None, str | None]] = {}
        self.successes: dict[tuple[str, int], int] = {}  # generation by job and round
        self.unannounced: set[str] = set()  # executions whose outcome was their first report
        self.is_dying = False  # a process dies after the next outcome that it stores
        self.step()

    # Stored state, changed only by conditional updates

    def move(self, job_id: str, change: Move) -> None:
        before = self.store.jobs[job_id]
        moved = Moved(before, change(before))
        if moved.ends:
            given = Settlement.of(moved)
            stored = self.store.outcomes.setdefault(given.key, given)
            if self.is_dying:
                self.is_dying = False
                raise DiedError
            moved = Moved(before, stored.applied_to(before))
        self.update(moved)

    def complete(self, job: Job) -> None:
        """End a job whose outcome is stored."""
        stored = self.store.outcomes.get(key_of(job.id, job.generation))
        if stored and not job.is_terminal:
            self.update(Moved(job, stored.applied_to(job)))

    def update(self, moved: Moved) -> None:
        job_id, before, after = moved.after.id, moved.before, moved.after
        self.store.jobs[job_id] = after
        self.unannounced |= {a.execution_id for a in after.attempts[len(before.attempts) :] if a.outcome}
        if after.is_terminal:
            key = (job_id, after.generation)
            assert self.outcomes.setdefault(key, (after.outcome, after.execution_id)) == (
                after.outcome,
                after.execution_id,
            )
        if after.success:
            assert self.successes.setdefault((job_id, after.round), after.generation) == after.generation

    def step(self) -> None:
        run = self.store.run
        if run.order and not run.state.is_terminal:
            self.carry_out(run.order)
            return
        of_phase = [job for job in self.store.jobs.values() if job.phase is run.phase]
        if run.state.is_terminal or any(not job.is_terminal for job in of_phase):
            return
        succeeded = all(job.success for job in of_phase)
        target = run.next_state(phase_succeeded=succeeded)
        later = replace(run, state=target)
        for plan in plan_jobs(later, later.phase, self.clock) if later.phase else []:
            self.store.jobs.setdefault(plan.job.id, plan.job)
        for job in list(self.store.jobs.values()):
            if job.phase is later.phase and job.round < run.round:
                self.move(job.id, lambda job: job.rerun(job.generation, run.round, self.clock))
        self.store.run = later
        self.publish_queued()

    def carry_out(self, order: Order, *, steps: int | None = None) -> None:
        """Carry out an order completely, or its first steps, after which the process dies."""
        moves = self.moves(order)
        for job_id, move in moves[:steps]:
            self.move(job_id, move)
        if steps is not None:
            return
        run = self.store.run
        state = run.state if order.kind is OrderKind.RERUN else RunState.FAILED
        self.store.run = replace(run, state=state, order=None)
        self.publish_queued()

    def moves(self, order: Order) -> list[tuple[str, Move]]:
        """Return an order's moves of jobs, in the order of their ids."""
        run, phases = self.store.run, list(Phase)
        moves: dict[str, Move] = {}
        for job in self.jobs():
            is_later = run.phase and phases.index(job.phase) > phases.index(run.phase)
            if not job.is_terminal and (is_later or order.kind is not OrderKind.RERUN):
                outcome = Outcome.SUPERSEDED if order.kind is OrderKind.SUPERSEDE else Outcome.CANCELLED
                moves[job.id] = lambda job, outcome=outcome: job.cancel("ordered", self.clock, outcome)
        for job_id, generation in order.jobs:
            moves[job_id] = lambda job, generation=generation: job.rerun(generation, run.round, self.clock)
        return sorted(moves.items())

    def give(self, order: Order, state: RunState, steps: int | None) -> None:
        """Store an order, and carry out its steps until the process dies."""
        run = self.store.run
        self.store.run = replace(run, state=state, round=run.round + 1, order=order)
        with suppress(DiedError):
            self.carry_out(order, steps=steps)

    def end_the_order(self) -> None:
        """Carry out the stored order, which precedes the next one."""
        self.is_dying = False
        if self.store.run.order:
            self.step()

    def publish_queued(self) -> None:
        phase = self.store.run.phase
        self.backlog += [
            (job.id, job.generation)
            for job in self.store.jobs.values()
            if job.phase is phase and job.state is JobState.QUEUED
        ]

    # Normal work, one effect at a time

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.clock += timedelta(seconds=seconds)

    @precondition(lambda self: self.backlog)
    @rule(pick=picks)
    def hold(self, pick: int) -> None:
        self.held.append(self.backlog.pop(pick % len(self.backlog)))

    @precondition(lambda self: self.held)
    @rule(pick=picks, copies=st.integers(0, 2))
    def dispatch(self, pick: int, copies: int) -> None:
        """Zero copies: the broker lost the message or its confirm. Two: a repetition after an unknown publish.

        A job stays queued in the store. It is handed over again when the store has a later document of it.
        """
        job_id, generation = key = self.held[pick % len(self.held)]
        job = self.store.jobs[job_id]
        is_due = job.not_before is None or job.not_before <= self.clock
        if job.generation != generation or job.is_terminal:
            self.held.remove(key)
        elif job.state is JobState.QUEUED and is_due and self.flying.get(key) is not job:
            self.flying[key] = job
            self.ready += [Ready(job_id, generation, job.starts + 1)] * copies

    @precondition(lambda self: self.ready)
    @rule(pick=picks, is_told=st.booleans(), grader=st.sampled_from(["g1", "g2"]))
    def start(self, pick: int, is_told: bool, grader: str) -> None:
        message = self.ready.pop(pick % len(self.ready))
        execution = RunningJob(message, next(self.names), grader, self.clock)
        self.working.append(execution)
        if is_told:
            attempt = Attempt(execution.execution_id, grader, self.clock)
            self.send(message, lambda job: self.started(job, attempt))

    def started(self, job: Job, attempt: Attempt) -> Job:
        return job.start(attempt, lease=LEASE, policy=POLICY, now=self.clock, displaces=self.is_lost(job))

    def finished(self, job: Job, report: Execution) -> Job:
        return job.finish(report, policy=POLICY, now=self.clock, displaces=self.is_lost(job))

    def is_lost(self, job: Job) -> bool:
        """Return whether the job's execution has ended or died; another grader may then take the job."""
        return all(each.execution_id != job.execution_id for each in self.working)

    @precondition(lambda self: self.ready)
    @rule(pick=picks)
    def decline(self, pick: int) -> None:
        """Requeue a job that a gateway's grader cannot run."""
        message = self.ready.pop(pick % len(self.ready))
        until = self.clock + timedelta(seconds=1)
        self.move(message.job_id, lambda job: job.decline(message.generation, until))

    def send(self, message: Ready, change: Move) -> None:
        self.inbox.append((message.job_id, message.generation, change))

    @precondition(lambda self: any(e.report is None for e in self.working))
    @rule(pick=picks, outcome=verdicts, copies=st.integers(0, 2))
    def finish(self, pick: int, outcome: Outcome, copies: int) -> None:
        """Spool an outcome, then report it; another rule may acknowledge its message."""
        unfinished = [execution for execution in self.working if execution.report is None]
        execution = unfinished[pick % len(unfinished)]
        report = Execution(
            execution.execution_id,
            execution.grader,
            execution.started_at,
            self.clock,
            outcome,
            retryable=outcome is Outcome.INFRASTRUCTURE_ERROR,
        )
        execution.report = report
        for _ in range(copies):
            self.send(execution.message, lambda job: self.finished(job, report))

    @precondition(lambda self: any(e.report for e in self.working))
    @rule(pick=picks)
    def acknowledge(self, pick: int) -> None:
        """Acknowledge a message, but only after a certain report of its outcome."""
        finished = [execution for execution in self.working if execution.report]
        execution = finished[pick % len(finished)]
        report = execution.report
        assert report
        self.send(execution.message, lambda job: self.finished(job, report))
        self.working.remove(execution)

    @precondition(lambda self: self.working)
    @rule(pick=picks)
    def drain(self, pick: int) -> None:
        execution = self.working.pop(pick % len(self.working))
        self.send(execution.message, lambda job: job.release(execution.execution_id, self.clock))
        self.ready.append(execution.message)

    @precondition(lambda self: self.inbox)
    @rule(pick=picks, is_acknowledged=st.booleans())
    def record(self, pick: int, is_acknowledged: bool) -> None:
        """Record reports in any order; one that is not acknowledged comes again."""
        index = pick % len(self.inbox)
        job_id, generation, change = self.inbox[index]
        with suppress(DiedError):
            if self.store.jobs[job_id].generation == generation:
                self.move(job_id, change)
            if is_acknowledged:
                self.inbox.pop(index)
            self.step()

    # Faults

    @rule(is_emptied=st.booleans())
    def dispatcher_crashes(self, is_emptied: bool) -> None:
        """Another one takes over: it empties the ready queue, unless the old one fills it again."""
        self.backlog += self.held
        self.held.clear()
        self.flying.clear()
        if is_emptied:
            self.ready.clear()

    @rule()
    def a_process_dies_after_its_next_outcome(self) -> None:
        self.is_dying = True

    @rule()
    def graders_crash(self) -> None:
        """Requeue the graders' messages, at any stage of their handling."""
        self.ready += [execution.message for execution in self.working]
        self.working.clear()

    @rule(which=st.sampled_from(["backlog", "held", "ready", "inbox"]))
    def a_queue_is_lost(self, which: str) -> None:
        getattr(self, which).clear()

    # Staff

    @precondition(lambda self: self.store.jobs)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        job_id = sorted(self.store.jobs)[pick % len(self.store.jobs)]
        with suppress(DiedError):
            self.move(job_id, lambda job: job.cancel("staff", self.clock))
            self.step()

    @precondition(lambda self: self.store.jobs)
    @rule(pick=picks, steps=lives)
    def rerun(self, pick: int, steps: int | None) -> None:
        jobs = sorted(self.store.jobs.values(), key=lambda job: job.id)
        self.end_the_order()
        state, order = rerun_order(
            [outline_of(job) for job in self.jobs()], only=[jobs[pick % len(jobs)].id], failed=False
        )
        self.give(order, state, steps)

    @precondition(lambda self: not self.store.run.state.is_terminal)
    @rule(kind=st.sampled_from([OrderKind.CANCEL, OrderKind.SUPERSEDE]), steps=lives)
    def end_the_run(self, kind: OrderKind, steps: int | None) -> None:
        self.end_the_order()
        if not self.store.run.state.is_terminal:
            self.give(Order(kind), self.store.run.state, steps)

    # The reconciler

    @rule()
    def sweep(self) -> None:
        """Move or publish again each job that is stuck according to the store."""
        with suppress(DiedError):
            self._sweep()

    def _sweep(self) -> None:
        phase = self.store.run.phase
        for job_id in list(self.store.jobs):
            job = self.store.jobs[job_id]
            if job.lease_expires_at and job.lease_expires_at < self.clock:
                self.complete(job)
                self.move(job.id, lambda job: job.lose(self.clock, policy=POLICY))
                job = self.store.jobs[job_id]
            is_flying = job.state is JobState.QUEUED and self.flying.get((job.id, job.generation)) is job
            is_on_its_way = is_flying or job.state is JobState.DISPATCHED
            if is_on_its_way and not any(m.job_id == job.id for m in self.ready):
                self.move(job.id, lambda job: job.redispatch(self.clock))
                self.ready.append(Ready(job.id, job.generation, job.starts + 1))
            tracked = {job_id for job_id, _ in self.held + self.backlog}
            if job.state is JobState.QUEUED and job.phase is phase and job.id not in tracked:
                self.backlog.append((job.id, job.generation))
        self.step()

    @invariant()
    def later_phases_wait(self) -> None:
        """No post-processing job is open in the students' phase, except while an order is carried out."""
        run = self.store.run if hasattr(self, "store") else None
        if run and run.phase is Phase.STUDENTS and not run.order:
            posts = [job for job in self.jobs() if job.phase is Phase.POST_PROCESSING and not job.is_terminal]
            assert posts == []

    @invariant()
    def every_ended_job_has_the_outcome_that_was_stored_first(self) -> None:
        for job in self.jobs():
            if job.is_terminal:
                stored = [
                    each
                    for each in self.store.outcomes.values()
                    if (each.job_id, each.next_generation, each.finished_at)
                    == (job.id, job.generation, job.finished_at)
                ]
                assert [each.outcome for each in stored] == [job.outcome]

    @invariant()
    def starts_are_limited(self) -> None:
        """Starts are limited; an outcome that is the first report of its execution counts beyond the limit."""
        for job in self.jobs():
            late = sum(a.execution_id in self.unannounced for a in job.attempts if a.generation == job.generation)
            assert job.starts - late <= POLICY.max_attempts

    @invariant()
    def no_outcome_is_of_an_execution_that_was_given_back(self) -> None:
        for job in self.jobs():
            assert not any(a.released and a.outcome for a in job.attempts if a.execution_id == job.execution_id)

    @invariant()
    def an_ended_run_has_no_open_job(self) -> None:
        if hasattr(self, "store") and self.store.run.state.is_terminal:
            assert all(job.is_terminal for job in self.jobs())

    def jobs(self) -> list[Job]:
        return list(self.store.jobs.values()) if hasattr(self, "store") else []

    def teardown(self) -> None:
        """End the faults: the run and all jobs end within a bounded number of rounds."""
        if not hasattr(self, "store"):
            return
        self.is_dying = False
        for _ in range(200):
            if self.store.run.state.is_terminal:
                break
            self._work_it_off()
        assert self.store.run.state.is_terminal, (self.store.run.state, self.jobs())
        assert all(job.is_terminal for job in self.jobs())

    def _work_it_off(self) -> None:
        self.clock += timedelta(minutes=5)
        self.sweep()
        while self.backlog:
            self.hold(0)
        for entry in list(self.held):
            self.dispatch(self.held.index(entry), 1)
        self._grade()

    def _grade(self) -> None:
        while self.ready:
            self.start(0, is_told=True, grader="g1")
        for execution in list(self.working):
            if execution.report is None:
                self.finish(self._unfinished(execution), Outcome.SUCCEEDED, 1)
        while any(execution.report for execution in self.working):
            self.acknowledge(0)
        while self.inbox:
            self.record(0, is_acknowledged=True)

    def _unfinished(self, execution: RunningJob) -> int:
        return [each for each in self.working if each.report is None].index(execution)


def outline_of(job: Job) -> JobOutline:
    return JobOutline(job.id, job.phase, job.index, job.state, job.generation, success=bool(job.success))


TestDeployment = pytest.mark.timeout(3600 if IS_WHOLE else 120)(Deployment.TestCase)
TestDeployment.settings = settings(
    max_examples=20_000 if IS_WHOLE else 150, stateful_step_count=100 if IS_WHOLE else 60
)

"""The moves of a job: legal, late, repeated and out of order, and in any sequence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from earlier_jobs import dispatched
from harness import IS_WHOLE
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broadway.domain.job import Attempt, Execution, FaultPhase, Job, JobClass, JobState, Outcome, Phase, RetryPolicy
from broadway.domain.moves import Moved

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)
POLICY = RetryPolicy(max_attempts=3, backoff=timedelta(seconds=1))
STUDENT_OUTCOMES = [
    Outcome.SUCCEEDED,
    Outcome.FAILED,
    Outcome.TIMED_OUT,
    Outcome.OUT_OF_MEMORY,
    Outcome.OUTPUT_LIMIT,
]


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def queued() -> Job:
    return Job(
        id="a" * 24,
        run_id="b" * 24,
        course="cs1",
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=T0,
        not_before=at(5),
    )


def start(job: Job, execution: str, *, when: float = 2, displaces: bool = True) -> Job:
    attempt = Attempt(execution, f"on-{execution}", at(when))
    return job.start(attempt, lease=LEASE, policy=POLICY, now=at(when), displaces=displaces)


def report(execution: str, outcome: Outcome, *, when: float = 9, retryable: bool = False) -> Execution:
    return Execution(
        execution_id=execution,
        grader_id=f"on-{execution}",
        started_at=at(2),
        finished_at=at(when),
        outcome=outcome,
        reason=f"{execution} says so",
        fault_phase=FaultPhase.PULL if outcome is Outcome.INFRASTRUCTURE_ERROR else None,
        retryable=retryable,
        results=[{"success": outcome is Outcome.SUCCEEDED}],
    )


def finish(
    job: Job, execution: str, outcome: Outcome, *, when: float = 9, retryable: bool = False, displaces: bool = True
) -> Job:
    reported = report(execution, outcome, when=when, retryable=retryable)
    return job.finish(reported, policy=POLICY, now=at(when), displaces=displaces)


def fault(job: Job, execution: str, *, retryable: bool = True) -> Job:
    return finish(job, execution, Outcome.INFRASTRUCTURE_ERROR, retryable=retryable)


DISPATCHED = dispatched(queued(), at(1))
RUNNING = start(DISPATCHED, "e1")
FINISHED = finish(RUNNING, "e1", Outcome.SUCCEEDED)
AT_LIMIT = start(start(RUNNING, "e2"), "e3")


def test_a_successful_job_passes_through_its_states() -> None:
    assert DISPATCHED.state is JobState.DISPATCHED
    assert (DISPATCHED.dispatched_at, DISPATCHED.not_before) == (at(1), None)

    assert RUNNING.state is JobState.RUNNING
    assert (RUNNING.execution_id, RUNNING.grader_id) == ("e1", "on-e1")
    assert (RUNNING.started_at, RUNNING.lease_expires_at) == (at(2), at(32))
    assert RUNNING.starts == 1

    assert FINISHED.is_terminal
    assert (FINISHED.outcome, FINISHED.success, FINISHED.reason) == (Outcome.SUCCEEDED, True, "e1 says so")
    assert (FINISHED.finished_at, FINISHED.lease_expires_at) == (at(9), None)
    assert FINISHED.results == [{"success": True}]
    assert FINISHED.seconds == 7.0


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.SUPERSEDED])
@pytest.mark.parametrize("job", [queued(), DISPATCHED, RUNNING, FINISHED], ids=lambda job: job.state)
def test_a_grader_cancels_no_job(job: Job, outcome: Outcome) -> None:
    for execution in ("e1", "e2"):
        assert finish(job, execution, outcome) is job


@pytest.mark.parametrize("job", [queued(), RUNNING, FINISHED], ids=lambda job: job.state)
def test_only_a_dispatched_job_is_dispatched_again(job: Job) -> None:
    assert job.redispatch(at(50)) is job
    assert DISPATCHED.redispatch(at(50)) == replace(DISPATCHED, dispatched_at=at(50))


@pytest.mark.parametrize("job", [RUNNING, FINISHED], ids=lambda job: job.state)
def test_only_a_job_that_no_grader_has_is_declined(job: Job) -> None:
    assert job.decline(job.generation, at(50)) is job


def test_a_declined_job_waits_and_loses_no_start() -> None:
    declined = DISPATCHED.decline(1, at(50))
    assert declined == replace(DISPATCHED, state=JobState.QUEUED, dispatched_at=None, not_before=at(50))
    assert declined.starts == 0
    assert DISPATCHED.decline(2, at(50)) is DISPATCHED, "another generation's message"


@pytest.mark.parametrize("job", [queued(), DISPATCHED, FINISHED], ids=lambda job: job.state)
def test_only_a_running_job_is_lost(job: Job) -> None:
    assert job.lose(at(50), policy=POLICY) is job


@pytest.mark.parametrize("job", [queued(), DISPATCHED, RUNNING], ids=lambda job: job.state)
def test_a_start_is_accepted_in_every_open_state(job: Job) -> None:
    started = start(job, "e9", when=4)

    assert (started.state, started.execution_id, started.not_before) == (JobState.RUNNING, "e9", None)
    assert started.starts == job.starts + 1
    assert started.started_at == (job.started_at or at(4))


def test_a_repeated_start_counts_once() -> None:
    assert start(RUNNING, "e1", when=3) is RUNNING
    assert start(FINISHED, "e7") is FINISHED


def test_one_start_too_many_is_an_infrastructure_error() -> None:
    given_up = start(AT_LIMIT, "e4", when=20)

    assert given_up.outcome is Outcome.INFRASTRUCTURE_ERROR
    assert (given_up.fault_phase, given_up.success, given_up.finished_at) == (FaultPhase.WAIT, False, at(20))
    assert "3 attempts" in given_up.reason
    assert given_up.results == [{"result": "worker died while executing job"}]
    assert given_up.starts == 3


@pytest.mark.parametrize("outcome", STUDENT_OUTCOMES)
@pytest.mark.parametrize("job", [queued(), DISPATCHED, RUNNING], ids=lambda job: job.state)
@pytest.mark.parametrize("execution", ["e1", "e9"])
def test_the_first_outcome_of_any_execution_ends_the_job(job: Job, outcome: Outcome, execution: str) -> None:
    ended = finish(job, execution, outcome)

    assert ended.is_terminal
    assert (ended.outcome, ended.execution_id, ended.grader_id) == (outcome, execution, f"on-{execution}")
    assert ended.success is (outcome is Outcome.SUCCEEDED)
    assert (ended.not_before, ended.lease_expires_at) == (None, None)
    assert [a.outcome for a in ended.attempts if a.execution_id == execution] == [outcome]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_nothing_changes_a_finished_job(outcome: Outcome) -> None:
    assert finish(FINISHED, "e1", outcome) is FINISHED
    assert finish(FINISHED, "e2", outcome, retryable=True) is FINISHED
    assert FINISHED.release("e1", at(50)) is FINISHED
    assert FINISHED.give_up("no", FaultPhase.PULL, at(50)) is FINISHED


@pytest.mark.parametrize("job", [DISPATCHED, RUNNING], ids=lambda job: job.state)
def test_a_fault_of_the_infrastructure_requeues_with_a_pause(job: Job) -> None:
    again = fault(job, "e1")

    assert again.state is JobState.QUEUED
    assert again.not_before == at(9) + POLICY.backoff
    assert (again.outcome, again.success, again.finished_at) == (None, None, None)
    assert again.avoid == ["on-e1"]
    assert again.starts == 1


def test_a_fault_that_is_not_retryable_ends_the_job() -> None:
    ended = fault(RUNNING, "e1", retryable=False)

    assert (ended.outcome, ended.fault_phase, ended.success) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.PULL, False)


def test_a_fault_at_the_limit_ends_the_job() -> None:
    assert fault(AT_LIMIT, "e3").outcome is Outcome.INFRASTRUCTURE_ERROR


def test_a_fault_of_an_older_execution_changes_nothing_but_its_attempt() -> None:
    second = start(RUNNING, "e2")
    after = fault(second, "e1", retryable=False)

    assert (after.state, after.execution_id, after.starts) == (JobState.RUNNING, "e2", 2)
    assert [a.outcome for a in after.attempts] == [Outcome.INFRASTRUCTURE_ERROR, None]


@pytest.mark.parametrize("job", [start(fault(RUNNING, "e1"), "e2"), fault(RUNNING, "e1")], ids=lambda job: job.state)
def test_a_repeated_fault_changes_nothing(job: Job) -> None:
    assert fault(job, "e1") is job


def test_a_start_that_is_reported_after_its_fault_changes_nothing() -> None:
    again = fault(DISPATCHED, "e1")

    assert start(again, "e1") is again


def test_a_lost_job_starts_elsewhere_and_may_still_be_finished_by_the_first_grader() -> None:
    lost = RUNNING.lose(at(40), policy=POLICY)

    assert (lost.state, lost.not_before, lost.lease_expires_at) == (JobState.QUEUED, at(41), None)
    assert finish(lost, "e1", Outcome.FAILED).outcome is Outcome.FAILED
    assert finish(start(lost, "e2"), "e1", Outcome.SUCCEEDED).execution_id == "e1"


def test_a_job_that_is_lost_at_the_limit_is_given_up() -> None:
    given_up = AT_LIMIT.lose(at(40), policy=POLICY)

    assert (given_up.outcome, given_up.fault_phase) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.WAIT)
    assert (given_up.execution_id, given_up.grader_id) == ("e3", "on-e3")


@pytest.mark.parametrize("off", [-3600, 3600])
def test_a_graders_clock_moves_no_lease_and_no_pause(off: float) -> None:
    attempt = Attempt("e1", "on-e1", at(off))
    running = DISPATCHED.start(attempt, lease=LEASE, policy=POLICY, now=at(2))
    assert running.lease_expires_at == at(32)

    failed = report("e1", Outcome.INFRASTRUCTURE_ERROR, when=off + 5, retryable=True)
    again = running.finish(failed, policy=POLICY, now=at(7))
    assert again.not_before == POLICY.not_before(1, at(7))


def test_a_second_start_shortens_no_lease() -> None:
    second = start(RUNNING, "e2", when=1)

    assert second.lease_expires_at == RUNNING.lease_expires_at


def test_a_released_start_does_not_count() -> None:
    released = RUNNING.release("e1", at(6))

    assert (released.state, released.dispatched_at, released.lease_expires_at) == (JobState.DISPATCHED, at(6), None)
    assert released.starts == 0
    assert start(released, "e1") is released


def test_releasing_twice_or_without_a_start_or_after_the_outcome_changes_nothing() -> None:
    released = RUNNING.release("e1", at(6))
    failed = fault(RUNNING, "e1")

    assert released.release("e1", at(6)) is released
    assert RUNNING.release("e9", at(6)) is RUNNING
    assert failed.release("e1", at(10)) is failed


def test_releasing_an_older_execution_does_not_change_the_current_one() -> None:
    second = start(RUNNING, "e2").release("e1", at(6))

    assert (second.state, second.execution_id, second.starts) == (JobState.RUNNING, "e2", 1)


def test_a_released_start_still_does_not_count_after_a_late_fault() -> None:
    released = RUNNING.release("e1", at(6))

    assert fault(start(released, "e2"), "e1").starts == 1


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("later", ["released", "with another grader", "with the same grader"])
def test_an_execution_that_was_given_back_has_no_outcome(later: str, outcome: Outcome) -> None:
    released = RUNNING.release("e1", at(6))
    same = released.start(Attempt("e2", "on-e1", at(7)), lease=LEASE, policy=POLICY, now=at(7))
    job = {"released": released, "with another grader": start(released, "e3"), "with the same grader": same}[later]

    assert finish(job, "e1", outcome) is job
    assert finish(job, "e1", outcome, displaces=False) is job


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_a_grader_that_displaces_the_running_one_takes_its_job(outcome: Outcome) -> None:
    assert start(RUNNING, "e2", displaces=False) is RUNNING
    assert finish(RUNNING, "e2", outcome, displaces=False) is RUNNING
    assert finish(start(RUNNING, "e2"), "e1", Outcome.SUCCEEDED, displaces=False).execution_id == "e1", "it ran the job"


@pytest.mark.parametrize("job", [queued(), DISPATCHED, start(DISPATCHED, "e9")], ids=lambda job: job.state)
def test_an_outcome_counts_without_a_start_unless_another_grader_runs_the_job(job: Job) -> None:
    assert finish(job, "e9", Outcome.FAILED, displaces=False).outcome is Outcome.FAILED


def test_a_grader_gives_back_only_its_own_execution() -> None:
    assert RUNNING.release("e1", at(6), grader_id="another") is RUNNING
    assert RUNNING.release("e1", at(6), grader_id="on-e1").state is JobState.DISPATCHED


def test_the_outcome_of_an_execution_comes_from_its_grader() -> None:
    stolen = replace(report("e1", Outcome.SUCCEEDED), grader_id="another")

    assert RUNNING.finish(stolen, policy=POLICY, now=at(9), displaces=True) is RUNNING


def test_only_the_execution_that_is_named_is_lost() -> None:
    job = start(start(dispatched(queued(), at(1)), "e1"), "e2", when=3)

    assert job.lose(at(9), policy=POLICY, execution_id="e1") is job
    assert job.lose(at(9), policy=POLICY, execution_id="e2").state is JobState.QUEUED


def test_a_job_that_is_put_back_waits_again_without_a_pause_and_its_start_does_not_count() -> None:
    job = start(dispatched(queued(), at(1)), "e1").put_back("e1", at(4))

    assert (job.state, job.not_before, job.starts, job.dispatched_at) == (JobState.QUEUED, None, 0, None)
    assert job.put_back("e1", at(5)) is job
    assert start(dispatched(job, at(6)), "e2").put_back("e1", at(7)).execution_id == "e2"


@pytest.mark.parametrize("state", ["queued", "dispatched", "finished"])
def test_only_a_running_job_is_put_back(state: str) -> None:
    jobs = {
        "queued": queued(),
        "dispatched": dispatched(queued(), at(1)),
        "finished": start(queued(), "e1").finish(report("e1", Outcome.SUCCEEDED), policy=POLICY, now=at(9)),
    }

    assert jobs[state].put_back("e1", at(4)) is jobs[state]


def test_a_grader_holds_its_newest_attempt_that_has_not_ended() -> None:
    job = start(dispatched(queued(), at(1)), "e1")

    held = job.execution_of("on-e1")
    assert held
    assert held.execution_id == "e1"
    assert job.execution_of("on-e2") is None
    assert job.put_back("e1", at(4)).execution_of("on-e1") is None
    assert job.lose(at(4), policy=POLICY).execution_of("on-e1") == held, "it may still report"


def test_a_job_that_is_given_up_has_the_reason() -> None:
    given_up = DISPATCHED.give_up("no such pool", FaultPhase.START, at(60))

    assert (given_up.outcome, given_up.reason) == (Outcome.INFRASTRUCTURE_ERROR, "no such pool")
    assert given_up.results == [{"result": "no such pool"}]
    assert given_up.finished_at == at(60)


def test_a_first_start_that_was_redelivered_counts_for_two() -> None:
    """The grader before it has started the job and died before it reported that; later starts are all reported."""
    job = again = DISPATCHED.start(
        Attempt("e1", "g1", at(2), redelivered=True), lease=LEASE, policy=POLICY, now=at(2)
    ).lose(at(3), policy=POLICY)
    assert (job.state, job.starts, job.charged_starts) == (JobState.QUEUED, 1, 2)
    for name in ("e2", "e3"):
        again = again.start(Attempt(name, "g1", at(4), redelivered=True), lease=LEASE, policy=POLICY, now=at(4))
    assert (again.state, again.outcome) == (JobState.FINISHED, Outcome.INFRASTRUCTURE_ERROR)
    assert again.charged_starts == POLICY.max_attempts
    later = RUNNING.start(
        Attempt("e2", "g2", at(3), redelivered=True), lease=LEASE, policy=POLICY, now=at(3), displaces=True
    )
    assert later.charged_starts == later.starts == 2
    rerun = job.rerun(job.generation, 2, at(5))
    assert rerun.charged_starts == 0


def test_a_fault_without_a_reported_start_requeues_a_queued_job() -> None:
    """A job stays queued until a start is reported, which a fault within 200 ms may precede."""
    job = fault(replace(queued(), not_before=None), "e1")
    assert (job.state, job.starts, job.not_before) == (JobState.QUEUED, 1, at(10))
    assert fault(job, "e1") is job


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (11, 1024), (500, 1024)])
def test_pauses_double_up_to_a_bound(attempts: int, seconds: float) -> None:
    assert POLICY.not_before(attempts, T0) == at(seconds)


def test_a_move_that_changes_nothing_returns_the_same_job() -> None:
    assert not Moved(FINISHED, fault(FINISHED, "e1")).changed
    assert Moved(DISPATCHED, RUNNING).changed


executions = st.sampled_from([f"e{n}" for n in range(6)])


class AnySequence(RuleBasedStateMachine):
    """Events of any executions, in any order, any number of times."""

    def __init__(self) -> None:
        super().__init__()
        self.job = queued()
        self.clock = 10
        self.endings: list[Job] = []

    def now(self) -> int:
        self.clock += 1
        return self.clock

    def move(self, after: Job) -> None:
        before, self.job = self.job, after
        if before.is_terminal:
            assert after is before
        elif after.is_terminal:
            self.endings.append(after)

    @rule()
    def dispatch(self) -> None:
        self.move(dispatched(self.job, at(self.now())))

    @rule()
    def redispatch(self) -> None:
        self.move(self.job.redispatch(at(self.now())))

    @rule(execution=executions)
    def start(self, execution: str) -> None:
        before = self.job
        self.move(start(before, execution, when=self.now()))
        if self.job.state is JobState.RUNNING and self.job is not before:
            assert self.job.starts <= POLICY.max_attempts
            assert self.job.execution_id == execution
        assert start(self.job, execution, when=self.now()) is self.job

    @rule(execution=executions, outcome=st.sampled_from(STUDENT_OUTCOMES))
    def finish(self, execution: str, outcome: Outcome) -> None:
        before = self.job
        self.move(finish(before, execution, outcome, when=self.now()))
        if any(a.execution_id == execution and a.released for a in before.attempts):
            assert self.job is before
        elif not before.is_terminal:
            assert (self.job.outcome, self.job.execution_id) == (outcome, execution)

    @rule(execution=executions, retryable=st.booleans())
    def fault(self, execution: str, *, retryable: bool) -> None:
        failed = report(execution, Outcome.INFRASTRUCTURE_ERROR, when=self.now(), retryable=retryable)
        before = self.job
        self.move(before.finish(failed, policy=POLICY, now=at(self.now()), displaces=True))
        if not before.is_terminal:
            assert self.job.outcome in (None, Outcome.INFRASTRUCTURE_ERROR)
        assert self.job.finish(failed, policy=POLICY, now=at(self.now()), displaces=True) is self.job

    @rule()
    def lose(self) -> None:
        self.move(self.job.lose(at(self.now()), policy=POLICY))
        assert self.job.lose(at(self.now()), policy=POLICY) is self.job

    @rule(execution=executions)
    def release(self, execution: str) -> None:
        self.move(self.job.release(execution, at(self.now())))
        assert self.job.release(execution, at(self.now())) is self.job

    @rule()
    def cancel(self) -> None:
        before = self.job
        self.move(self.job.cancel("not wanted", at(self.now())))
        if not before.is_terminal:
            assert (self.job.outcome, self.job.generation) == (Outcome.CANCELLED, before.generation + 1)
        assert self.job.cancel("again", at(self.now())) is self.job

    @rule()
    def rerun(self) -> None:
        before = self.job
        self.job = before.rerun(before.generation, before.round + 1, at(self.now()))
        self.endings.clear()
        assert (self.job.generation, self.job.state, self.job.starts) == (before.generation + 1, JobState.QUEUED, 0)
        assert self.job.rerun(before.generation, 99, at(self.now())) is self.job
        assert {a.execution_id for a in self.job.attempts} == {a.execution_id for a in before.attempts}

    @precondition(lambda self: not self.job.is_terminal)
    @rule()
    def could_be_finished(self) -> None:
        assert finish(start(dispatched(self.job, at(self.now())), "new"), "new", Outcome.SUCCEEDED).is_terminal

    @invariant()
    def ends_once(self) -> None:
        assert self.endings == ([self.job] if self.job.is_terminal else [])

    @invariant()
    def fields_agree_with_the_state(self) -> None:
        job = self.job
        assert job.is_terminal == (job.outcome is not None) == (job.finished_at is not None)
        assert job.success == ((job.outcome is Outcome.SUCCEEDED) if job.is_terminal else None)
        assert (job.lease_expires_at is not None) == (job.state is JobState.RUNNING)
        assert job.not_before is None or job.state is JobState.QUEUED

    @invariant()
    def attempts_are_kept_apart(self) -> None:
        ids = [attempt.execution_id for attempt in self.job.attempts]
        assert len(ids) == len(set(ids))


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=150 if IS_WHOLE else 60, stateful_step_count=40)

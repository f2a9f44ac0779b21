"""Finds violations of the promises in a history, after the fact and without knowledge of Broadway's code.

The history has the entries that all processes wrote while they ran; the final state is the content of the store after
all work has ended.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

OVER = ("grading run is complete", "grading run failed")
PRE_JOB, STUDENT_JOB, POST_JOB = "pre processing job", "student grading job", "post processing job"
VERDICTS = ("succeeded", "failed", "timed_out", "out_of_memory", "output_limit")  # outcomes that a container caused
SKEW = 0.05  # seconds between an effect and its line in the history


@dataclass(frozen=True)
class Entry:
    """One line of the history."""

    at: float
    what: str
    pid: int = 0
    run: str = ""
    job: str = ""
    generation: int = 0
    execution: str | None = None
    grader: str = ""
    outcome: str | None = None
    students: int = 0
    round: int = 1
    source: str = ""
    target: str = ""
    course: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Final:
    """The state at the end, with runs and jobs as the store has them.

    ``outcomes`` are the documents of the outcomes, which ``jobs`` have been joined with, see ``joined``.
    ``expected`` has the only correct outcome of each job, which follows from its stages; ``cancelled`` the jobs with a
    requested cancellation; ``earlier`` the outcomes and executions that the store had before, by job and generation;
    ``executed`` the executions whose outcomes the store had before the history began; ``queues`` the number of messages
    in each queue.
    """

    runs: Sequence[dict[str, Any]]
    jobs: Sequence[dict[str, Any]]
    outcomes: Sequence[dict[str, Any]] = ()
    expected: Mapping[str, str] = field(default_factory=dict)
    cancelled: Collection[str] = ()
    earlier: Mapping[tuple[str, int], tuple[str, str | None]] = field(default_factory=dict)
    executed: Collection[str] = ()
    queues: Mapping[str, int] = field(default_factory=dict)
    dead_letters: Sequence[dict[str, Any]] = ()
    spooled: Sequence[str] = ()
    directories: Sequence[str] = ()


@dataclass(frozen=True)
class _Case:
    entries: Sequence[Entry]
    final: Final
    slots: int
    max_attempts: int
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, what: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.what == what]


def read(path: Path) -> list[Entry]:
    """Return the entries of a history, ordered by time."""
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted((Entry(**json.loads(line)) for line in lines), key=lambda entry: entry.at)


def joined(jobs: Sequence[dict[str, Any]], outcomes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return jobs with the attempts and the execution in the documents of their outcomes."""
    stored = {_outcome_key(outcome["grading_job_id"], "next_generation", outcome): outcome for outcome in outcomes}
    found = [(job, stored.get(_outcome_key(str(job["_id"]), "generation", job))) for job in jobs]
    return [_with_outcome(job, outcome) if outcome else job for job, outcome in found]


def _outcome_key(job_id: str, generation: str, document: dict[str, Any]) -> tuple[Any, ...]:
    return job_id, document.get(generation, 1), document.get("outcome"), document.get("finished_at")


def _with_outcome(job: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    attempts = {attempt["execution_id"]: attempt for attempt in [*(job.get("attempts") or []), *outcome["attempts"]]}
    execution = outcome["execution_id"] or job.get("execution_id")
    return {**job, "attempts": list(attempts.values()), "execution_id": execution, "reason": outcome["reason"]}


def check(entries: Sequence[Entry], final: Final, *, slots: int, max_attempts: int) -> list[str]:
    """Return a sentence for each violation. ``slots`` is the number of slots of each grader."""
    case = _Case(
        entries,
        final,
        slots,
        max_attempts,
        jobs={str(job["_id"]): job for job in final.jobs},
        runs={str(run["_id"]): run for run in final.runs},
    )
    return [problem for rule in _RULES for problem in rule(case)]


def _every_submission_has_its_outcomes(case: _Case) -> Iterator[str]:
    if not case.runs:
        yield "final state: nothing could be read"
    for submitted in {entry.run: entry for entry in case.of("submitted")}.values():
        run = case.runs.get(submitted.run)
        if run is None:
            yield f"run {submitted.run}: accepted and then lost"
            continue
        if _students(run) != submitted.students:
            yield f"run {submitted.run}: {_students(run)} of {submitted.students} students are stored"
    for job_id, job in case.jobs.items():
        if job["state"] != "finished" or not job.get("outcome"):
            yield f"job {job_id}: has no outcome, it is {job['state']}"


def _is_student_job(job: dict[str, Any], run: str) -> bool:
    return bool(job["grading_run_id"] == run and job["type"] == STUDENT_JOB)


def _every_run_ends_as_its_jobs_did(case: _Case) -> Iterator[str]:
    """Require that a run is complete with all jobs of all phases, unless its pre- or post-processing failed."""
    of_run: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for job in case.final.jobs:
        of_run[job["grading_run_id"]].append(job)
    for run_id, run in case.runs.items():
        if run["state"] not in OVER:
            yield f"run {run_id}: hangs as {run['state']!r}"
            continue
        failed = {job["type"] for job in of_run[run_id] if not _is_student_job(job, run_id) and not job.get("success")}
        if (run["state"] == OVER[1]) != bool(failed):
            yield f"run {run_id}: {run['state']}, though {sorted(failed) or 'nothing'} has failed"
        present = Counter(job["type"] for job in of_run[run_id])
        for kind, number in _planned(run).items():
            if present[kind] != number and PRE_JOB not in failed:
                yield f"run {run_id}: {present[kind]} of {number} jobs of the kind {kind!r}"


def _planned(run: dict[str, Any]) -> dict[str, int]:
    """Return the number of jobs of each kind that a run must have."""
    config = run["config"]
    return {
        PRE_JOB: int(bool(config.get("pre_processing_pipeline"))),
        STUDENT_JOB: _students(run),
        POST_JOB: int(bool(config.get("post_processing_pipeline"))),
    }


def _every_outcome_is_correct(case: _Case) -> Iterator[str]:
    """Allow an infrastructure error only for a job that has used all its attempts."""
    for job_id, expected in case.final.expected.items():
        job = case.jobs[job_id]
        outcome = job.get("outcome")
        is_given_up = outcome == "infrastructure_error" and _charged(job) >= case.max_attempts
        is_cancelled = outcome == "cancelled" and job_id in case.final.cancelled
        if outcome != expected and not is_given_up and not is_cancelled:
            yield f"job {job_id}: {outcome} after {len(_counted(job))} attempts, where {expected} is right"


def _the_store_is_consistent(case: _Case) -> Iterator[str]:
    """Require at most one verdict per generation, equal to the job's outcome, whether or not it was reported."""
    for job_id, job in case.jobs.items():
        verdicts: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for attempt in job.get("attempts") or []:
            if attempt.get("outcome") in VERDICTS:
                verdicts[attempt.get("generation", 1)].append(attempt)
        for generation, attempts in verdicts.items():
            if len(attempts) > 1:
                yield f"job {job_id}: {len(attempts)} attempts of generation {generation} have a verdict"
        last = verdicts[job.get("generation", 1)]
        recorded = [(attempt["outcome"], attempt["execution_id"]) for attempt in last]
        if job.get("outcome") in VERDICTS and (job["outcome"], job["execution_id"]) not in recorded:
            yield f"job {job_id}: {job['outcome']} by execution {job['execution_id']}, of which no attempt tells"


def _each_outcome_is_one_document(case: _Case) -> Iterator[str]:
    stored = Counter(_outcome_key(each["grading_job_id"], "next_generation", each) for each in case.final.outcomes)
    for job_id, job in case.jobs.items():
        number = stored[_outcome_key(job_id, "generation", job)]
        if job["state"] == "finished" and number != 1:
            yield f"job {job_id}: {job.get('outcome')} is stored in {number} documents of outcomes"


def _stored_outcomes_stay(case: _Case) -> Iterator[str]:
    for (job_id, generation), earlier in case.final.earlier.items():
        job = case.jobs.get(job_id)
        if job is None:
            yield f"job {job_id}: was stored and is gone"
        elif job.get("generation", 1) == generation and (job.get("outcome"), job.get("execution_id")) != earlier:
            yield f"job {job_id}: {job.get('outcome')} is stored, where {earlier[0]} was before"


def _an_outcome_never_changes(case: _Case) -> Iterator[str]:
    accepted: dict[tuple[str, int], Entry] = {}
    for entry in case.of("outcome"):
        first = accepted.setdefault((entry.job, entry.generation), entry)
        if first is not entry:
            yield f"job {entry.job}: two outcomes in generation {entry.generation}: {first.outcome}, {entry.outcome}"


def _stored_outcomes_were_accepted(case: _Case) -> Iterator[str]:
    accepted = {(entry.job, entry.generation): entry for entry in case.of("outcome")}
    for job_id, job in case.jobs.items():
        entry = accepted.get((job_id, job.get("generation", 1)))
        if entry and (entry.outcome, entry.execution) != (job.get("outcome"), job.get("execution_id")):
            yield f"job {job_id}: {job.get('outcome')} is stored, {entry.outcome} was accepted"


def _no_outcome_of_an_earlier_generation(case: _Case) -> Iterator[str]:
    newest: dict[str, int] = defaultdict(int)
    for entry in case.of("outcome"):
        if entry.generation < newest[entry.job]:
            yield f"job {entry.job}: an outcome of generation {entry.generation} after one of {newest[entry.job]}"
        newest[entry.job] = max(newest[entry.job], entry.generation)
    for job_id, generation in newest.items():
        if job_id in case.jobs and generation > case.jobs[job_id].get("generation", 1):
            yield f"job {job_id}: an outcome of generation {generation}, which it has not reached"


def _phases_follow_each_other(case: _Case) -> Iterator[str]:
    steps: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in case.of("step"):
        steps[entry.run, entry.round].append(entry)
    for (run, round_), taken in steps.items():
        for source, number in Counter(step.source for step in taken if step.source != step.target).items():
            if number > 1:
                yield f"run {run}: left {source!r} {number} times in round {round_}"
        begun = [step.at for step in taken if step.target == "post-processing" and step.source != step.target]
        if begun and round_ == 1:
            yield from _began_too_early(case, run, begun[0])


def _began_too_early(case: _Case, run: str, begun: float) -> Iterator[str]:
    students = {job_id for job_id, job in case.jobs.items() if _is_student_job(job, run)}
    first = {entry.job: entry.at for entry in reversed(case.of("outcome")) if entry.job in students}
    late = [job_id for job_id, at in first.items() if at > begun + SKEW]
    if late:
        yield f"run {run}: post-processing began before {len(late)} students had an outcome, such as {late[0]}"


def _post_processing_runs_once(case: _Case) -> Iterator[str]:
    posts = {job_id for job_id, job in case.jobs.items() if job["type"] == POST_JOB}
    succeeded = Counter(
        (entry.job, entry.generation)
        for entry in case.of("outcome")
        if entry.job in posts and entry.outcome == "succeeded"
    )
    yield from (f"job {job}: post-processed {number} times" for (job, _), number in succeeded.items() if number > 1)
    for job_id in posts:
        rounds = case.runs.get(case.jobs[job_id]["grading_run_id"], {}).get("round", 1)
        if (number := sum(succeeded[key] for key in succeeded if key[0] == job_id)) > rounds:
            yield f"job {job_id}: post-processed {number} times in {rounds} rounds"


def _executions(case: _Case) -> dict[str, tuple[Entry, float]]:
    """Return each execution with its end.

    An execution without an end, whose grader was killed, ends at the first execution of the grader's next process.
    """
    ends = {entry.execution: entry.at for entry in case.of("execution-ended")}
    next_life: dict[str, list[Entry]] = defaultdict(list)
    for entry in case.of("execution"):
        next_life[entry.grader].append(entry)
    found: dict[str, tuple[Entry, float]] = {}
    for entry in case.of("execution"):
        later = [other.at for other in next_life[entry.grader] if other.pid != entry.pid and other.at > entry.at]
        end = ends.get(entry.execution, min(later, default=float("inf")))
        found[str(entry.execution)] = (entry, end)
    return found


def _no_grader_runs_more_than_its_slots(case: _Case) -> Iterator[str]:
    moments: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
    for entry, end in _executions(case).values():
        if end != float("inf"):
            moments[entry.grader, entry.pid] += [(entry.at, 1), (end, -1)]
    for (grader, _), changes in moments.items():
        running = most = 0
        for _, change in sorted(changes, key=lambda moment: (moment[0], moment[1])):
            running += change
            most = max(most, running)
        if most > case.slots:
            yield f"grader {grader}: {most} jobs at a time, with {case.slots} slots"


def _no_grader_runs_a_job_twice_at_a_time(case: _Case) -> Iterator[str]:
    """Compare the executions of all processes that a grader has had."""
    by_job: dict[tuple[str, str, int], list[tuple[float, float]]] = defaultdict(list)
    for entry, end in _executions(case).values():
        by_job[entry.grader, entry.job, entry.generation].append((entry.at, end))
    for (grader, job, _), times in by_job.items():
        times.sort()
        if any(later < end for (_, end), (later, _) in pairwise(times)):
            yield f"grader {grader}: ran job {job} twice at the same time"


def _no_outcome_without_an_execution(case: _Case) -> Iterator[str]:
    known = {*case.final.executed, *(entry.execution for entry in case.of("execution"))}
    for entry in case.of("outcome"):
        was_run = entry.outcome not in ("cancelled", "infrastructure_error")
        if was_run and entry.execution not in known:
            yield f"job {entry.job}: {entry.outcome} by execution {entry.execution}, which nobody ran"


def _nothing_is_left(case: _Case) -> Iterator[str]:
    yield from (f"spool: {path} is left" for path in case.final.spooled)
    yield from (f"job directory: {path} is left" for path in case.final.directories)
    yield from (f"queue {name}: {depth} messages are left" for name, depth in case.final.queues.items() if depth)
    for letter in case.final.dead_letters:
        yield f"dead letter: {letter['message_id']} of {letter['queue']}: {letter['reason']}"


def _attempts_are_limited(case: _Case) -> Iterator[str]:
    for job_id, job in case.jobs.items():
        if (number := len(_counted(job))) > case.max_attempts:
            yield f"job {job_id}: {number} attempts, {case.max_attempts} are allowed"


def _counted(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the attempts of a job's generation that count against the limit."""
    generation = job.get("generation", 1)
    return [a for a in job.get("attempts") or [] if not a["released"] and a.get("generation", 1) == generation]


def _charged(job: dict[str, Any]) -> int:
    """Return a generation's starts, with an unreported one before a first attempt that was redelivered."""
    own = [a for a in job.get("attempts") or [] if a.get("generation", 1) == job.get("generation", 1)]
    return len(_counted(job)) + bool(own and own[0].get("redelivered"))


_RULES = (
    _every_submission_has_its_outcomes,
    _every_run_ends_as_its_jobs_did,
    _every_outcome_is_correct,
    _the_store_is_consistent,
    _each_outcome_is_one_document,
    _stored_outcomes_stay,
    _an_outcome_never_changes,
    _stored_outcomes_were_accepted,
    _no_outcome_of_an_earlier_generation,
    _phases_follow_each_other,
    _post_processing_runs_once,
    _no_grader_runs_more_than_its_slots,
    _no_grader_runs_a_job_twice_at_a_time,
    _no_outcome_without_an_execution,
    _nothing_is_left,
    _attempts_are_limited,
)


def _students(run: Mapping[str, Any]) -> int:
    """Return the number of students with whom a run is stored."""
    envs = run["students_env"]
    return int(envs["students"] if isinstance(envs, dict) else len(envs))

"""The output of commands: tables on a terminal, tab-separated lines elsewhere."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from broadway.cli import terminal
from broadway.cli.points import number, out_of
from broadway.client import GraderDescription, JobDescription, RunDescription
from broadway.domain.job import Phase
from broadway.domain.report import ReportedTest
from broadway.messages.resources.jobs import JobSummary, JobView
from broadway.messages.resources.reports import ReportView
from broadway.messages.resources.runs import RunDetail, RunSummary


def run_table(run: RunDescription) -> None:
    """Print a run's state, and a line for each job."""
    state = f"{run.state} ({run.reason})" if run.reason else run.state
    terminal.message(f"{run.course}/{run.assignment} {run.id}: {state}")
    jobs_table(run.jobs)


def jobs_table(jobs: Sequence[JobDescription]) -> None:
    """Print a line for each job of a run."""
    students = student_names(jobs)
    rows = [
        (
            job.id,
            students.get(job.id, ""),
            job.phase,
            job.outcome or job.state,
            *_score(job),
            _seconds(job.seconds),
            str(job.attempts),
            job.grader or "",
            job.reason or (f"waits for {job.waits_for}" if job.waits_for else ""),
        )
        for job in jobs
    ]
    _table(
        ("job", "student", "phase", "outcome", "score", "maximum", "seconds", "attempts", "grader", "why"),
        rows,
    )


def runs_table(runs: Sequence[RunSummary]) -> None:
    """Print a line for each run, with the points of a run of one submission."""
    rows = [
        (
            run.id,
            run.assignment,
            run.trigger.student if run.trigger else "",
            run.state,
            "" if run.success is None else "yes" if run.success else "no",
            *_score(run),
            _at(run.started_at),
            _at(run.finished_at),
        )
        for run in runs
    ]
    head = ("id", "assignment", "student", "state", "success", "score", "maximum", "started at", "finished at")
    _table(head, rows)


def phase_table(run: RunDetail) -> None:
    """Print a line for each phase of a run, with the outcomes of its jobs."""
    rows = [
        (
            phase.phase,
            phase.state,
            str(phase.jobs),
            ", ".join(f"{count} {outcome}" for outcome, count in sorted(phase.outcomes.items())),
            phase.reason,
        )
        for phase in run.phases
    ]
    _table(("phase", "state", "jobs", "outcomes", "why"), rows)


def job_table(job: JobView) -> None:
    """Print a job's state, its score and its attempts, and a line for each stage."""
    state = job.outcome or job.state
    terminal.message(f"{job.course}/{job.assignment} {job.id}: {f'{state} ({job.reason})' if job.reason else state}")
    if job.queue:
        terminal.message(job.queue.text)
    if job.score is not None:
        terminal.message(f"score: {out_of(job.score, job.max_score)}")
    for place, attempt in enumerate(job.executions, 1):
        given_back = ", given back" if attempt.given_back else ""
        terminal.message(f"attempt {place} on {attempt.grader}: {attempt.outcome or 'not ended'}{given_back}")
    rows = [
        (
            stage.image or "",
            "untrusted" if stage.untrusted else "trusted",
            "" if stage.exit_code is None else str(stage.exit_code),
            stage.killed_for or "",
            stage.reason,
        )
        for stage in job.stages
    ]
    _table(("image", "stage", "exit code", "killed for", "why"), rows)


def report_table(view: ReportView) -> None:
    """Print a report's score and messages, and a line for each test."""
    for text in filter(None, (view.problem, view.warning)):
        terminal.message(text)
    for file in view.files:
        terminal.message(f"results file {file.path}: {file.size} bytes, sha256 {file.sha256}")
    if view.report is None:
        return
    if not view.report.gradable:
        terminal.message("not gradable")
    if view.report.score is not None:
        terminal.message(f"score: {out_of(view.report.score, view.report.max)}")
    for message in view.report.messages:
        terminal.paragraph(message.body)
    _table(("number", "test", "status", "points", "message"), [_test_row(test) for test in view.report.tests])


def _test_row(test: ReportedTest) -> tuple[str, ...]:
    said = test.message or test.output
    first = said.body.strip().split("\n", 1)[0][:_LONGEST] if said else ""
    status = f"{test.status.value}{', flaky' if test.flaky else ''}"
    return test.number or "", test.name.body, status, out_of(test.score, test.max), first


_LONGEST = 200  # characters of a message in a table


# Variables that commonly hold a student's name, by preference.
_NAMES = ("BROADWAY_STUDENT", "STUDENT_ID", "NETID", "STUDENT", "USERNAME", "LOGIN", "GROUP", "TEAM")


def student_names(jobs: Sequence[JobDescription]) -> dict[str, str]:
    """Return the names of the students of a run's jobs, by the id of the job.

    The server names those that a roster or a hook named. For others it is the variable that is a name by custom, or
    else the first one in which the jobs differ.
    """
    own = [job for job in jobs if job.phase == Phase.STUDENTS.value]
    shared = [name for name in (own[0].env if own else {}) if all(name in job.env for job in own)]
    by_custom = sorted((name for name in shared if name.upper() in _NAMES), key=lambda name: _NAMES.index(name.upper()))
    differing = [name for name in shared if not name.startswith("GRADING_") and _differ(name, own)]
    variable = next(iter([*by_custom, *differing]), None)
    return {job.id: job.student or (str(job.env[variable]) if variable else "") for job in own}


def _differ(name: str, jobs: Sequence[JobDescription]) -> bool:
    return len({str(job.env[name]) for job in jobs}) > 1


def grader_table(graders: Sequence[GraderDescription]) -> None:
    """Print a line for each grader."""
    rows = [
        (
            grader.id,
            grader.hostname,
            grader.pool,
            grader.runtime,
            grader.state,
            f"{len(grader.running)}/{grader.slots}",
            str(grader.jobs_processed),
            grader.model_dump(mode="json")["last_seen"] or "",
            grader.reason,
        )
        for grader in graders
    ]
    _table(("id", "host", "pool", "runtime", "state", "running", "jobs", "last seen", "why"), rows)


def hook_table(hooks: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each hook."""
    rows = [
        (
            _text(hook.get("name")),
            _text(hook.get("assignment")),
            _text(hook.get("format")),
            " ".join([*hook.get("branches", []), *(f"tag:{tag}" for tag in hook.get("tags", []))]),
            "latest" if hook.get("only_latest") else "every",
            f"{hook['quota']['submissions']}/{hook['quota']['seconds']:g}" if hook.get("quota") else "",
            _text(hook.get("secrets")),
            _text(hook.get("url")),
        )
        for hook in hooks
    ]
    _table(("hook", "assignment", "format", "refs", "policy", "quota", "secrets", "path"), rows)


def delivery_table(deliveries: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each delivery."""
    columns = ("id", "received_at", "state", "student", "version", "run", "times", "reason")
    _table(columns, [[_text(delivery.get(column)) for column in columns] for delivery in deliveries])


def letter_table(letters: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each dead letter."""
    columns = ("id", "last_at", "count", "queue", "subject", "reason")
    _table(columns, [[_text(letter.get(column)) for column in columns] for letter in letters])


def join_token_table(tokens: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each join token."""
    columns = ("id", "name", "pools", "uses_left", "graders", "created_at", "expires_at", "revoked_at")
    _table(columns, [[_text(token.get(column)) for column in columns] for token in tokens])


def pool_table(pools: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each pool."""
    rows = []
    for pool in pools:
        slots, jobs = pool.get("slots", {}), pool.get("jobs", {})  # which an older server does not send
        load = (slots.get("live"), slots.get("free"), jobs.get("waiting"), jobs.get("running"), jobs.get("oldest_wait"))
        switch = ("on" if pool["original_graders"] else "off", pool["reason"], " ".join(pool["courses"]))
        graders = (pool["graders"], " ".join(pool["without_secret"]))
        rows.append([_text(each) for each in (pool["id"], *switch, *load, pool.get("suggested_slots"), *graders)])
    of_load = ("slots", "free", "jobs waiting", "running", "oldest wait", "suggested slots")
    _table(("pool", "original graders", "why", "courses", *of_load, "graders", "without secret"), rows)


def roster_table(students: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each student."""
    columns = ("student", "repository", "repository_id", "env")
    _table(columns, [[_text(student.get(column)) for column in columns] for student in students])


def queue_table(queues: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each queue."""
    heads = {
        "queue": "queue",
        "ready": "ready messages",
        "unacked": "unacked messages",
        "consumers": "consumers",
        "waiting": "jobs waiting",
        "running": "jobs running",
    }
    _table(list(heads.values()), [[_text(queue[key]) for key in heads] for queue in queues])


def topology_table(objects: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
    """Print a line for each object that a broker should have: its kind, its name and its arguments."""
    rows = [(kind, name, _text(each.get("definition") or each["arguments"] or None)) for kind, name, each in objects]
    _table(("kind", "name", "arguments"), rows)


def records_table(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print a line for each record, with some of its fields."""
    _table(columns, [[_text(record.get(column)) for column in columns] for record in records])


def fields_table(fields: Mapping[str, Any]) -> None:
    """Print a line for each field of an object."""
    _table(("field", "value"), [(key, _text(value)) for key, value in fields.items()])


def config_table(settings: Sequence[Sequence[str]]) -> None:
    """Print a line for each setting: its name, its value and, if it is given, the source of the value."""
    _table(("name", "value", "from")[: len(settings[0])], settings)


def _score(item: JobSummary | RunSummary) -> tuple[str, str]:
    """Return the score and the maximum of an item of a list."""
    return number(item.score), number(item.max_score)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _at(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


# The columns with ids and names that other commands take.
_WHOLE = frozenset({"id", "job", "run", "hook", "student", "assignment", "grader", "path", "field", "name"})


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    terminal.table(head, rows, whole=[name for name in head if name in _WHOLE])

"""The checker itself: it finds no violation in a good history, and names the violation in each bad one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from faults.checker import Entry, Final, check, joined, read
from faults.report import BEGIN, END, Report

RUN, ONE, TWO, POST = "run1", "job1", "job2", "post1"
DONE = {"state": "finished", "outcome": "succeeded", "success": True, "grading_run_id": RUN, "generation": 1}
STUDENT, AFTER = "student grading job", "post processing job"
COMPLETE = {
    "_id": RUN,
    "state": "grading run is complete",
    "config": {"student_pipeline": [{}], "post_processing_pipeline": [{}]},
    "students_env": [{}, {}],
}


def attempt(
    execution: str, *, outcome: str | None = None, released: bool = False, generation: int = 1
) -> dict[str, Any]:
    return {"execution_id": execution, "outcome": outcome, "released": released, "generation": generation}


def succeeded(execution: str, **more: Any) -> dict[str, Any]:
    return attempt(execution, outcome="succeeded", **more)


@dataclass
class Story:
    """A run with two students' jobs and a post-processing job, all of which succeeded."""

    runs: list[dict[str, Any]] = field(default_factory=lambda: [dict(COMPLETE)])
    jobs: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            ONE: {"_id": ONE, "type": STUDENT, **DONE, "execution_id": "e1", "attempts": [succeeded("e1")]},
            TWO: {"_id": TWO, "type": STUDENT, **DONE, "execution_id": "e2", "attempts": [succeeded("e2")]},
            POST: {"_id": POST, "type": AFTER, **DONE, "execution_id": "e3", "attempts": [succeeded("e3")]},
        }
    )
    entries: list[Entry] = field(
        default_factory=lambda: [
            Entry(1, "submitted", run=RUN, students=2),
            Entry(1, "step", run=RUN, source="ready", target="students"),
            *execution(ONE, "e1", 2, 3),
            *execution(TWO, "e2", 2.5, 4),
            Entry(5, "step", run=RUN, source="students", target="post-processing"),
            *execution(POST, "e3", 6, 7),
            Entry(8, "step", run=RUN, source="post-processing", target="finished"),
        ]
    )
    more: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> list[str]:
        more = {"outcomes": [document_of(job) for job in self.jobs.values() if job["outcome"]], **self.more}
        final = Final(self.runs, list(self.jobs.values()), **more)
        ordered = sorted(self.entries, key=lambda entry: entry.at)
        return check(ordered, final, slots=2, max_attempts=3)

    def change(self, matches: Callable[[Entry], bool], **changes: Any) -> None:
        (index,) = [number for number, entry in enumerate(self.entries) if matches(entry)]
        self.entries[index] = replace(self.entries[index], **changes)


def document_of(job: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the document of a job's outcome."""
    generation, outcome, execution_id = job["generation"], job["outcome"], job["execution_id"]
    document = {"grading_job_id": job["_id"], "next_generation": generation, "outcome": outcome, "reason": ""}
    return {**document, "execution_id": execution_id, "attempts": job["attempts"], **more}


def execution(job: str, name: str, begin: float, end: float, *, grader: str = "g1", generation: int = 1) -> list[Entry]:
    ids: dict[str, Any] = {"run": RUN, "job": job, "generation": generation, "execution": name}
    return [
        Entry(begin, "execution", grader=grader, pid=1, **ids),
        Entry(end, "execution-ended", grader=grader, pid=1, **ids),
        Entry(end + 0.1, "outcome", outcome="succeeded", **ids),
    ]


def test_a_good_history_has_no_violations() -> None:
    assert Story().problems() == []


def test_a_retry_and_a_rerun_are_no_violations() -> None:
    story = Story()
    story.jobs[ONE]["attempts"] = [attempt("e0"), attempt("e0r", released=True), succeeded("e1"), attempt("e1b")]
    story.jobs[TWO] |= {"generation": 2, "execution_id": "e4"}
    story.jobs[TWO]["attempts"] = [attempt(f"e{n}") for n in range(3)] + [succeeded("e4", generation=2)]
    story.entries += execution(TWO, "e4", 9, 10, generation=2)

    assert story.problems() == []


def test_jobs_are_joined_with_the_documents_of_their_outcomes() -> None:
    """A document that no job's update followed does not count, and jobs without one are as they are stored."""
    jobs = Story().jobs
    running = {**jobs[ONE], "attempts": [attempt("e0"), attempt("e1")], "execution_id": None}
    ended = document_of(jobs[ONE], attempts=[succeeded("e1")], reason="because")
    lost = document_of(jobs[ONE], outcome="failed", attempts=[], execution_id="e8")

    one, two = joined([running, jobs[TWO]], [ended, lost])
    assert (one["attempts"], one["execution_id"]) == ([attempt("e0"), succeeded("e1")], "e1")
    assert one["reason"] == "because"
    assert two is jobs[TWO]


def lost_run(story: Story) -> None:
    story.runs = [{**COMPLETE, "_id": "another"}]


def hanging_run(story: Story) -> None:
    story.runs[0]["state"] = "students grading jobs have been scheduled"


def missing_job(story: Story) -> None:
    del story.jobs[TWO]
    story.entries = [entry for entry in story.entries if entry.job != TWO]


def missing_student(story: Story) -> None:
    story.runs[0]["students_env"] = [{}]


def failed_run(story: Story) -> None:
    story.runs[0]["state"] = "grading run failed"


def complete_though_its_end_failed(story: Story) -> None:
    story.jobs[POST] |= {"outcome": "failed", "success": False}


def wrong_outcome(story: Story) -> None:
    story.more["expected"] = {ONE: "failed", TWO: "succeeded"}


def blamed_too_early(story: Story) -> None:
    story.jobs[TWO] |= {"outcome": "infrastructure_error", "attempts": [attempt("e2a"), attempt("e2")]}
    story.more["expected"] = {TWO: "succeeded"}


def cancelled_without_a_request(story: Story) -> None:
    story.jobs[TWO]["outcome"] = "cancelled"
    story.more |= {"expected": {TWO: "succeeded"}, "cancelled": {ONE}}


def two_verdicts_in_the_store(story: Story) -> None:
    story.jobs[TWO]["attempts"].append(attempt("e2b", outcome="failed"))


def verdict_without_an_attempt(story: Story) -> None:
    story.jobs[TWO]["attempts"] = [attempt("e2")]


def outcome_without_a_document(story: Story) -> None:
    story.more["outcomes"] = [document_of(story.jobs[ONE]), document_of(story.jobs[POST])]


def outcome_in_two_documents(story: Story) -> None:
    story.more["outcomes"] = [document_of(job) for job in [*story.jobs.values(), story.jobs[TWO]]]


def stored_differently_before(story: Story) -> None:
    story.more["earlier"] = {(ONE, 1): ("cancelled", None)}


def gone_from_the_store(story: Story) -> None:
    story.more["earlier"] = {("job3", 1): ("succeeded", "e9")}


def open_job(story: Story) -> None:
    story.jobs[TWO] |= {"state": "running", "outcome": None}


def two_outcomes(story: Story) -> None:
    story.entries.append(Entry(9, "outcome", run=RUN, job=ONE, generation=1, execution="e1", outcome="failed"))


def changed_in_the_store(story: Story) -> None:
    story.jobs[ONE]["outcome"] = "failed"


def other_execution_in_the_store(story: Story) -> None:
    story.jobs[ONE]["execution_id"] = "e2"


def outdated_outcome(story: Story) -> None:
    story.jobs[ONE] |= {"generation": 2, "execution_id": "e5"}
    story.entries += execution(ONE, "e5", 1.1, 1.2, generation=2)


def outcome_of_the_future(story: Story) -> None:
    story.entries += execution(ONE, "e5", 8, 9, generation=2)


def post_processing_begins_too_early(story: Story) -> None:
    story.change(lambda entry: entry.target == "post-processing", at=3.5)


def two_steps_from_one_state(story: Story) -> None:
    story.entries.append(Entry(5.5, "step", run=RUN, source="students", target="post-processing"))


def post_processed_twice(story: Story) -> None:
    story.entries += execution(POST, "e3", 8, 9)[2:]


def post_processed_in_no_round(story: Story) -> None:
    story.jobs[POST] |= {"generation": 2, "execution_id": "e4"}
    story.entries += execution(POST, "e4", 8, 9, generation=2)


def too_many_at_a_time(story: Story) -> None:
    story.entries += execution("job3", "e6", 2.6, 2.9)[:2]


def one_job_twice_at_a_time(story: Story) -> None:
    story.entries += execution(ONE, "e6", 2.1, 2.2)[:2]


def one_job_twice_in_two_processes(story: Story) -> None:
    story.entries += [replace(entry, pid=2) for entry in execution(ONE, "e6", 2.1, 2.2)[:2]]


def outcome_without_an_execution(story: Story) -> None:
    story.entries = [entry for entry in story.entries if entry.execution != "e2" or entry.what == "outcome"]


def too_many_attempts(story: Story) -> None:
    story.jobs[ONE]["attempts"] = [attempt(f"e{n}") for n in range(4)]


def left_in_the_spool(story: Story) -> None:
    story.more["spooled"] = ["spool/d1/amqp/g1/outcomes.log: job1"]


def left_on_the_disk(story: Story) -> None:
    story.more["directories"] = ["jobs/life/job1"]


def left_in_a_queue(story: Story) -> None:
    story.more["queues"] = {"broadway.results": 0, "broadway.ready.default": 2}


def dead_letters(story: Story) -> None:
    story.more["dead_letters"] = [{"message_id": "m", "queue": "broadway.ready.default", "reason": "delivery_limit"}]


def nothing_could_be_read(story: Story) -> None:
    story.runs, story.jobs, story.entries = [], {}, []


BAD = {
    lost_run: "accepted and then lost",
    hanging_run: "hangs as",
    missing_job: "1 of 2 jobs of the kind 'student grading job'",
    missing_student: "1 of 2 students are stored",
    failed_run: "grading run failed, though nothing has failed",
    complete_though_its_end_failed: "is complete, though ['post processing job'] has failed",
    wrong_outcome: "succeeded after 1 attempts, where failed is right",
    blamed_too_early: "infrastructure_error after 2 attempts, where succeeded is right",
    cancelled_without_a_request: "cancelled after 1 attempts, where succeeded is right",
    two_verdicts_in_the_store: "2 attempts of generation 1 have a verdict",
    verdict_without_an_attempt: "of which no attempt tells",
    outcome_without_a_document: "job job2: succeeded is stored in 0 documents",
    outcome_in_two_documents: "job job2: succeeded is stored in 2 documents",
    stored_differently_before: "succeeded is stored, where cancelled was before",
    gone_from_the_store: "was stored and is gone",
    open_job: "has no outcome, it is running",
    two_outcomes: "two outcomes in generation 1",
    changed_in_the_store: "failed is stored, succeeded was accepted",
    other_execution_in_the_store: "succeeded is stored, succeeded was accepted",
    outdated_outcome: "an outcome of generation 1 after one of 2",
    outcome_of_the_future: "an outcome of generation 2, which it has not reached",
    post_processing_begins_too_early: "post-processing began before 1 students had an outcome",
    two_steps_from_one_state: "left 'students' 2 times",
    post_processed_twice: "post-processed 2 times",
    post_processed_in_no_round: "post-processed 2 times in 1 rounds",
    too_many_at_a_time: "3 jobs at a time, with 2 slots",
    one_job_twice_at_a_time: "ran job job1 twice at the same time",
    one_job_twice_in_two_processes: "ran job job1 twice at the same time",
    outcome_without_an_execution: "which nobody ran",
    too_many_attempts: "4 attempts, 3 are allowed",
    left_in_the_spool: "is left",
    left_on_the_disk: "is left",
    left_in_a_queue: "queue broadway.ready.default: 2 messages are left",
    dead_letters: "dead letter: m of broadway.ready.default: delivery_limit",
    nothing_could_be_read: "nothing could be read",
}


def test_an_outcome_from_before_the_history_needs_no_execution_in_it() -> None:
    story = Story()
    outcome_without_an_execution(story)
    story.more["executed"] = ["e2"]
    assert story.problems() == []


@pytest.mark.parametrize(("spoil", "complaint"), BAD.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_violation_is_reported(spoil: Callable[[Story], None], complaint: str) -> None:
    story = Story()
    spoil(story)

    assert any(complaint in problem for problem in story.problems()), story.problems()


def test_a_history_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"at": 2, "what": "step", "run": "r"}\n{"at": 1, "what": "submitted", "run": "r"}\n')

    assert [entry.what for entry in read(path)] == ["submitted", "step"]
    assert read(tmp_path / "none") == []


def test_the_report_replaces_only_rows_that_were_measured_again(tmp_path: Path) -> None:
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    first, second = Report(), Report()
    first.row("1", "one fault", "seen", "nothing")
    first.row("2", "another fault", "seen", "nothing")
    first.write(document)
    second.row("3", "one fault", "seen better", "nothing")
    second.write(document)

    lines = document.read_text().splitlines()
    assert [line for line in lines if "fault" in line] == [
        "| another fault | seen | nothing |",
        "| one fault | seen better | nothing |",
    ]
    assert (lines[0], lines[-1]) == ("before", "after")
    assert sum(line.startswith("|") for line in lines) == 4

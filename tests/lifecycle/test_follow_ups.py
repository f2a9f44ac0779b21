"""The facts that follow from stored moves, as few messages."""

from dataclasses import replace

from outcomes import T0

from broadway.domain.job import Job, JobClass, JobState, Outcome, Phase
from broadway.domain.moves import Moved
from broadway.lifecycle.follow_ups import facts_of
from broadway.messages.batches import JobsSettled, parts_of
from broadway.messages.events import CancelJob, JobRequeued, JobSettled


def moved(job_id: str, *, course: str = "cs1", state: JobState = JobState.FINISHED, generation: int = 1) -> Moved:
    before = Job(
        id=job_id,
        run_id="r1",
        course=course,
        assignment="mp1",
        phase=Phase.STUDENTS,
        index=0,
        job_class=JobClass.BULK,
        pool="default",
        queued_at=T0,
        state=JobState.RUNNING,
        grader_id="g1",
        traceparent=f"00-{job_id * 16}-{job_id * 8}-01",
    )
    outcome = Outcome.FAILED if state is JobState.FINISHED else None
    return Moved(before, replace(before, state=state, outcome=outcome, generation=generation))


def test_the_settled_jobs_of_a_course_are_one_message() -> None:
    facts = facts_of({each: moved(each) for each in ("a1", "b2", "c3")})
    assert [(key, type(event)) for _, key, event in facts] == [("job.settled.cs1", JobsSettled)]
    parts = parts_of(facts[0][2])
    assert [(part.subject, part.traceparent) for part in parts] == [
        (f"cs1/r1/{each}", f"00-{each * 16}-{each * 8}-01") for each in ("a1", "b2", "c3")
    ]


def test_courses_and_single_jobs_have_messages_of_their_own() -> None:
    jobs = {"a1": "cs1", "b2": "cs2", "c3": "cs1"}
    facts = facts_of({each: moved(each, course=course) for each, course in jobs.items()})
    assert [(key, type(event)) for _, key, event in facts] == [
        ("job.settled.cs1", JobsSettled),
        ("job.settled.cs2", JobSettled),
    ]


def test_other_facts_follow_as_they_are() -> None:
    facts = facts_of(
        {"a1": moved("a1", state=JobState.QUEUED), "b2": moved("b2", generation=2), "c3": moved("c3", generation=2)}
    )
    assert [type(event) for _, _, event in facts] == [JobsSettled, JobRequeued, CancelJob, CancelJob]


def test_a_message_has_a_limited_number_of_jobs() -> None:
    facts = facts_of({f"{number}": moved(f"{number}") for number in range(JobsSettled.most + 2)})
    assert [len(parts_of(event)) for _, _, event in facts] == [JobsSettled.most, 2]

"""The paces of courses: their running jobs, and the durations of recent ones."""

from datetime import datetime, timedelta

from broadway.domain.job import JobClass, JobState
from broadway.domain.waiting_time import Pace
from broadway.mongo.collection import Document, Documents
from broadway.mongo.outcomes import Outcomes

RECENT = timedelta(hours=6)  # since the queueing of jobs whose durations count
_MOST_RUNNING, _MOST_DURATIONS = 2_000, 100  # jobs in a pace
_TIMES = {"started_at": 1, "finished_at": 1, "generation": 1, "outcome": 1}


async def pace_of(jobs: Documents, outcomes: Outcomes, course: str, now: datetime) -> Pace:
    """Return the pace of a course: of its running jobs, and of some recent ones of each class."""
    running = await jobs.find({"course": course, "state": JobState.RUNNING.value}, _TIMES, limit=_MOST_RUNNING)
    ended: list[Document] = []
    for job_class in JobClass:
        of_class = {"course": course, "state": JobState.FINISHED.value, "class": job_class.value}
        ended += await jobs.find({**of_class, "queued_at": {"$gt": now - RECENT}}, _TIMES, limit=_MOST_DURATIONS)
    # A job that ended before its start was stored has the time of that with its outcome only.
    unknown = [each for each in ended if each.get("finished_at") and not each.get("started_at")]
    starts = await outcomes.starts(unknown) if unknown else {}
    times = [(each.get("started_at") or starts.get(str(each["_id"])), each.get("finished_at")) for each in ended]
    return Pace(
        [max(0.0, (now - each["started_at"]).total_seconds()) for each in running if each.get("started_at")],
        [(finished - started).total_seconds() for started, finished in times if started and finished],
    )

"""The paces of courses and the loads of pools: their jobs that wait and run, and the durations of recent ones."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from broadway.domain.job import JobClass, JobState
from broadway.domain.pool_load import FEWEST, StoredLoad
from broadway.domain.waiting_time import Pace
from broadway.mongo.collection import Document, Documents
from broadway.mongo.job_documents import BEFORE_START
from broadway.mongo.outcomes import Outcomes

RECENT = timedelta(hours=6)  # since the queueing of jobs whose durations count
_MOST_RUNNING, _MOST_DURATIONS = 2_000, 100  # jobs in a pace
_WINDOWS = (timedelta(minutes=5), timedelta(hours=1), RECENT)  # the first one that has durations serves
MOST_COUNTED = 100_000  # jobs of a pool
_TIMES = {"started_at": 1, "finished_at": 1, "generation": 1, "outcome": 1}


async def pace_of(jobs: Documents, outcomes: Outcomes, course: str, now: datetime) -> Pace:
    """Return the pace of a course: of its running jobs, and of some recent ones of each class."""
    running = await jobs.find({"course": course, "state": JobState.RUNNING.value}, _TIMES, limit=_MOST_RUNNING)
    ended: list[Document] = []
    for job_class in JobClass:
        of_class = {"course": course, "state": JobState.FINISHED.value, "class": job_class.value}
        ended += await jobs.find({**of_class, "queued_at": {"$gt": now - RECENT}}, _TIMES, limit=_MOST_DURATIONS)
    return Pace(
        [max(0.0, (now - each["started_at"]).total_seconds()) for each in running if each.get("started_at")],
        await _durations(ended, outcomes),
    )


async def load_of_pool(jobs: Documents, outcomes: Outcomes, pool: str, now: datetime) -> StoredLoad:
    """Return the load of a pool. Each question reads a bounded part of the index on state, pool and time."""
    waiting, oldest = 0, now
    for state in BEFORE_START:
        query: Document = {"state": state, "pool": {"$eq": pool}}
        waiting += await jobs.count_documents(query, limit=MOST_COUNTED)
        if first := await jobs.find_one(query, {"queued_at": 1}, sort=[("queued_at", 1)]):
            oldest = min(oldest, first["queued_at"])
    running = {"state": JobState.RUNNING.value, "pool": {"$eq": pool}}
    return StoredLoad(
        waiting=waiting,
        running=await jobs.count_documents(running, limit=MOST_COUNTED),
        oldest_wait=(now - oldest).total_seconds() if waiting else None,
        durations=await _recent(jobs, outcomes, pool, now),
    )


async def _recent(jobs: Documents, outcomes: Outcomes, pool: str, now: datetime) -> Sequence[float]:
    """Return the durations of recent jobs of a pool, from the shortest window that has enough of them."""
    found: Sequence[float] = ()
    for window in _WINDOWS:
        query = {"state": JobState.FINISHED.value, "pool": {"$eq": pool}, "queued_at": {"$gt": now - window}}
        found = await _durations(await jobs.find(query, _TIMES, limit=_MOST_DURATIONS), outcomes)
        if len(found) >= FEWEST:
            break
    return found


async def _durations(ended: Sequence[Document], outcomes: Outcomes) -> list[float]:
    """Return the seconds that jobs took, without those that never started."""
    # A job that ended before its start was stored has the time of that with its outcome only.
    unknown = [each for each in ended if each.get("finished_at") and not each.get("started_at")]
    starts = await outcomes.starts(unknown) if unknown else {}
    times = [(each.get("started_at") or starts.get(str(each["_id"])), each.get("finished_at")) for each in ended]
    return [(finished - started).total_seconds() for started, finished in times if started and finished]

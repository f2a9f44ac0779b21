"""The collection ``job_outcome``: the final outcome of each generation of a job, with its attempt, results and log.

A document is inserted once and never changed; only its log can be removed. Its ``_id`` is the job and the generation,
so that the first outcome that is inserted is the only one. The job's own update, which follows, has few fields; reads
join the others by the id.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from broadway.domain.callback import CallbackEvent
from broadway.domain.job import FaultPhase, Outcome
from broadway.domain.result import JobLog, read_streams
from broadway.domain.settlement import Settlement, key_of
from broadway.mongo.callbacks import CallbackEvents
from broadway.mongo.collection import Collection, Document, Documents, insert_each
from broadway.mongo.job_documents import attempt_document, attempt_of

_WITHOUT_BULK = {"results": 0, "stdout": 0, "stderr": 0, "streams": 0}
_WITHOUT_LOG = {"stdout": 0, "stderr": 0, "streams": 0}
_LOG = {"stdout": 1, "stderr": 1, "streams": 1}
_RAISING = (Outcome.CANCELLED.value, Outcome.SUPERSEDED.value)  # outcomes that raise the job's generation


class Outcomes:
    """Outcomes by job and generation."""

    def __init__(self, collection: Collection, events: CallbackEvents | None = None) -> None:
        self._outcomes = Documents(collection)
        self._events = events

    async def insert(
        self, settlements: Sequence[Settlement], logs: Mapping[str, JobLog] | None = None
    ) -> dict[str, Settlement]:
        """Store outcomes, each unless there is one of the same generation; before them, the events for endpoints.

        Args:
            settlements: The outcomes, at most one of each job.
            logs: The logs of executions, by execution id. The log of the execution that ended a job is stored with the
                outcome.

        Returns:
            The stored outcomes by job id, given ones or earlier ones without their results.
        """
        if self._events and (courses := await self._events.wanted()):
            await self._events.add([_event(each) for each in settlements if each.course in courses])
        documents = [_document(each, (logs or {}).get(each.execution_id or "")) for each in settlements]
        inserted = await insert_each(self._outcomes, documents)
        given = {each.job_id: each for each in settlements}
        late = [each.key for each, is_first in zip(settlements, inserted, strict=True) if not is_first]
        return given | (await self.get_many(late) if late else {})

    async def get_many(self, keys: Sequence[str]) -> dict[str, Settlement]:
        """Return outcomes without their results, by job id. ``keys`` has at most one key of each job."""
        found = await self._outcomes.find_by_ids(keys, _WITHOUT_BULK)
        return {each.job_id: each for each in map(_settlement, found)}

    async def with_results(self, keys: Sequence[str]) -> dict[str, Settlement]:
        """Return outcomes by key, with their results; unknown keys are left out."""
        found = await self._outcomes.find_by_ids(keys, _WITHOUT_LOG)
        return {each.key: each for each in map(_settlement, found)}

    async def of_finished(self, jobs: Iterable[Document], *, results: bool = False) -> dict[str, Settlement]:
        """Return the outcomes of finished jobs by job id, given the jobs' documents.

        Jobs that an earlier version has ended have none: their documents have everything. A document of the same
        generation does not count unless its values are those of the job's document.
        """
        finished = {str(job["_id"]): job for job in jobs}
        keys = [key for job_id, job in finished.items() for key in _keys(job_id, job)]
        fields = _WITHOUT_LOG if results else _WITHOUT_BULK
        found = await self._outcomes.find_by_ids(keys, fields)
        return {each.job_id: each for each in map(_settlement, found) if _is_of(each, finished[each.job_id])}

    async def starts(self, jobs: Iterable[Document]) -> dict[str, datetime]:
        """Return the times at which finished jobs started, by job id, given the jobs' documents."""
        keys = [key for job in jobs for key in _keys(str(job["_id"]), job)]
        found = await self._outcomes.find_by_ids(keys, {"grading_job_id": 1, "started_at": 1})
        return {each["grading_job_id"]: each["started_at"] for each in found if each["started_at"]}

    async def remove_logs(self, job_id: str, executions: Sequence[str]) -> None:
        """Remove the logs of executions of a job."""
        for execution in executions:
            # The ids of a job's outcomes are its id with a generation, so they are a range of the only index.
            query = {"_id": {"$gte": job_id, "$lt": f"{job_id}~"}, "execution_id": {"$eq": execution}}
            await self._outcomes.update_one(query, {"$unset": dict.fromkeys(_LOG, "")})

    async def log(self, job_id: str, generation: int, execution_id: str) -> JobLog | None:
        """Return the log of an execution if it ended its job's generation and the log is stored with the outcome."""
        query = {"_id": {"$eq": key_of(job_id, generation)}, "execution_id": {"$eq": execution_id}}
        document = await self._outcomes.find_one(query, _LOG)
        return log_of(document, job_id, execution_id) if document and "stdout" in document else None


def _event(settlement: Settlement) -> CallbackEvent:
    return CallbackEvent.job_finished(
        settlement.course,
        settlement.job_id,
        settlement.generation,
        run_id=settlement.run_id,
        at=settlement.finished_at,
    )


def _keys(job_id: str, document: Document) -> list[str]:
    """Return the possible keys of a finished job's outcome."""
    generation = document.get("generation", 1)
    generations = [generation, generation - 1] if document.get("outcome") in _RAISING else [generation]
    return [key_of(job_id, each) for each in generations]


def _is_of(settlement: Settlement, document: Document) -> bool:
    stored = document.get("generation", 1), document.get("outcome"), document.get("finished_at")
    return (settlement.next_generation, settlement.outcome.value, settlement.finished_at) == stored


def _document(settlement: Settlement, log: JobLog | None) -> Document:
    document: Document = {
        "_id": settlement.key,
        "grading_job_id": settlement.job_id,
        "grading_run_id": settlement.run_id,
        "course": settlement.course,
        "generation": settlement.generation,
        "next_generation": settlement.next_generation,
        "outcome": settlement.outcome.value,
        "success": settlement.success,
        "reason": settlement.reason,
        "fault_phase": settlement.fault_phase.value if settlement.fault_phase else None,
        "started_at": settlement.started_at,
        "finished_at": settlement.finished_at,
        "execution_id": settlement.execution_id,
        "worker_id": settlement.grader_id,
        "attempts": [attempt_document(attempt) for attempt in settlement.attempts],
        "results": None if settlement.results is None else list(settlement.results),
    }
    if settlement.images:
        document["images"] = list(settlement.images)
    return document if log is None else document | log_fields(log)


def _settlement(document: Document) -> Settlement:
    phase = document["fault_phase"]
    return Settlement(
        job_id=document["grading_job_id"],
        run_id=document["grading_run_id"],
        course=document["course"],
        generation=document["generation"],
        next_generation=document["next_generation"],
        outcome=Outcome(document["outcome"]),
        success=document["success"],
        reason=document["reason"],
        fault_phase=FaultPhase(phase) if phase else None,
        started_at=document["started_at"],
        finished_at=document["finished_at"],
        execution_id=document["execution_id"],
        grader_id=document["worker_id"],
        attempts=tuple(map(attempt_of, document["attempts"])),
        results=document.get("results"),
        images=tuple(document.get("images") or ()),
    )


def log_fields(log: JobLog) -> Document:
    """Return the fields of a stored log."""
    fields: Document = {"stdout": log.stdout, "stderr": log.stderr}
    return fields | ({"streams": [[list(pair) for pair in each] for each in log.streams]} if log.streams else {})


def log_of(document: Document, job_id: str, execution_id: str) -> JobLog:
    """Return the log in a document."""
    streams = tuple(read_streams(each) for each in document.get("streams") or [])
    return JobLog(job_id, execution_id, _text(document.get("stdout")), _text(document.get("stderr")), streams)


def _text(value: object) -> str:
    """Return output as text; graders of the original system may have reported other values."""
    return value if isinstance(value, str) else "" if value is None else str(value)

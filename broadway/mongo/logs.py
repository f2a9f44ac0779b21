"""The collection ``job_log``: logs of executions that are not stored with an outcome.

Those are the logs of attempts that did not end their job, large ones, and those that earlier versions stored.
"""

from collections.abc import Sequence

from broadway.domain.result import JobLog
from broadway.mongo.collection import Collection, Documents, insert_each, object_id
from broadway.mongo.outcomes import Outcomes, log_fields, log_of


class Logs:
    """Logs by execution, no matter where they are stored."""

    def __init__(self, collection: Collection, outcomes: Outcomes) -> None:
        self._logs = Documents(collection)
        self._outcomes = outcomes

    async def ensure_indexes(self) -> None:
        await self._logs.create_index("grading_job_id", name="by_job")

    async def put(self, logs: Sequence[JobLog]) -> None:
        """Store logs; a log that is already stored stays as it is."""
        documents = [
            {
                "_id": object_id(entry.execution_id) or entry.execution_id,
                "grading_job_id": entry.job_id,
                "execution_id": entry.execution_id,
                **log_fields(entry),
            }
            for entry in logs
        ]
        if documents:
            await insert_each(self._logs, documents)

    async def remove(self, job_id: str, executions: Sequence[str]) -> None:
        """Remove the logs of executions of a job, no matter where they are stored."""
        await self._logs.delete_many({"grading_job_id": {"$eq": job_id}, "execution_id": {"$in": list(executions)}})
        await self._outcomes.remove_logs(job_id, executions)

    async def get(self, job_id: str, execution_id: str | None, *, generation: int | None = None) -> JobLog | None:
        """Return the log of an execution, or None.

        Args:
            job_id: The job.
            execution_id: The execution; None for jobs of the original system, which have one log each.
            generation: The job's generation in which the execution ran, if it is known.
        """
        if (
            execution_id is not None
            and generation is not None
            and (kept := await self._outcomes.log(job_id, generation, execution_id))
        ):
            return kept
        query = {"grading_job_id": {"$eq": job_id}}
        if execution_id is not None:
            query["execution_id"] = {"$eq": execution_id}
        document = await self._logs.find_one(query)
        return log_of(document, job_id, execution_id or "") if document else None

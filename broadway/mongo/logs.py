"""The collection ``job_log``: one document per execution, stored apart from the jobs."""

from collections.abc import Sequence

from broadway.domain.result import JobLog, read_streams
from broadway.mongo.collection import Collection, Documents, insert_each, object_id


class Logs:
    """Logs by execution."""

    def __init__(self, collection: Collection) -> None:
        self._logs = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._logs.create_index("grading_job_id", name="by_job")

    async def put(self, logs: Sequence[JobLog]) -> None:
        """Store logs; a log that is already stored stays as it is."""
        documents = [
            {
                "_id": object_id(entry.execution_id) or entry.execution_id,
                "grading_job_id": entry.job_id,
                "execution_id": entry.execution_id,
                "stdout": entry.stdout,
                "stderr": entry.stderr,
                **({"streams": [[list(pair) for pair in each] for each in entry.streams]} if entry.streams else {}),
            }
            for entry in logs
        ]
        if documents:
            await insert_each(self._logs, documents)

    async def get(self, job_id: str, execution_id: str | None) -> JobLog | None:
        """Return the log of an execution, or None.

        Jobs of the original system have one log each and no execution id; pass None for them.
        """
        query = {"grading_job_id": {"$eq": job_id}}
        if execution_id is not None:
            query["execution_id"] = {"$eq": execution_id}
        document = await self._logs.find_one(query)
        if document is None:
            return None
        return JobLog(
            job_id,
            execution_id or "",
            _text(document.get("stdout")),
            _text(document.get("stderr")),
            tuple(read_streams(each) for each in document.get("streams") or []),
        )


def _text(value: object) -> str:
    """Return output as text; graders of the original system may have reported other values."""
    return value if isinstance(value, str) else "" if value is None else str(value)

"""The collections ``job_report``, a document per execution with reports, and ``report_file``, by the files' hashes."""

import json
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from broadway.domain.comparison import CaseResult
from broadway.domain.originals import CorruptFileError, OriginalFile, Reported, StageReport, unpacked
from broadway.domain.report import Report, Status
from broadway.mongo.collection import Collection, Document, Documents, insert_each, object_id
from broadway.runtime.threads import beside

_LEVEL = 1  # of compression: reports are mostly repeated keys, and recording should not wait
_EPOCH = datetime.fromtimestamp(0, UTC)
_SWEPT = 200  # files at a time
_MAX_REPORT = 16 * 1024 * 1024  # bytes of a report after decompression


class Reports:
    """Reports by execution, and their original files."""

    def __init__(self, reports: Collection, files: Collection) -> None:
        self._reports = Documents(reports)
        self._files = Documents(files)

    async def ensure_indexes(self) -> None:
        await self._reports.create_index("stages.files.sha256", name="files")
        await self._files.create_index("unused_since", name="to_sweep")

    async def put_files(self, files: Sequence[OriginalFile]) -> None:
        """Store the bytes of files by their hashes; bytes that are already stored stay, and are in use again."""
        now = datetime.now(UTC)
        are_new = await insert_each(
            self._files,
            [{"_id": file.sha256, "size": file.size, "data": file.compressed(), "stored_at": now} for file in files],
        )
        if known := [file for file, is_new in zip(files, are_new, strict=True) if not is_new]:
            await self._use_again(known)

    async def _use_again(self, files: Sequence[OriginalFile]) -> None:
        """Note that files are in use again; store the bytes of those that were removed meanwhile."""
        fields = {"unused_since": 1}
        found = await self._files.find_by_ids([file.sha256 for file in files], fields)
        unused = [each["_id"] for each in found if each.get("unused_since")]
        if unused:
            await self._files.update_many({"_id": {"$in": unused}}, {"$unset": {"unused_since": ""}})
            found = await self._files.find_by_ids([file.sha256 for file in files], fields)
        stored = {each["_id"] for each in found}
        if missing := [file for file in files if file.sha256 not in stored]:
            await self.put_files(missing)

    async def _note_unused(self, digests: Sequence[str]) -> None:
        """Note that reports with these files are removed; the bytes are swept later if no other report has them."""
        query: Document = {"_id": {"$in": list(digests)}, "unused_since": None}
        await self._files.update_many(query, {"$set": {"unused_since": datetime.now(UTC)}})

    async def sweep_files(self, before: datetime) -> int:
        """Remove bytes that have been noted as unused before a moment and that no report has; return their number."""
        query: Document = {"unused_since": {"$gt": _EPOCH, "$lte": before}}
        removed = 0
        for each in await self._files.find(query, {"unused_since": 1}, limit=_SWEPT):
            if await self._reports.find_one({"stages.files.sha256": each["_id"]}, {"_id": 1}):
                await self._files.update_one(each, {"$unset": {"unused_since": ""}})
            else:
                removed += (await self._files.delete_one(each)).deleted_count
        return removed

    async def put(self, reports: Sequence[StageReport]) -> None:
        """Store the reports of executions without their files' bytes; an execution that has reports keeps them."""
        by_execution: dict[str, dict[int, StageReport]] = {}
        for each in reports:
            by_execution.setdefault(each.execution_id, {})[each.stage] = each
        await insert_each(
            self._reports,
            [
                {
                    "_id": object_id(execution_id) or execution_id,
                    "grading_job_id": next(iter(of_one.values())).job_id,
                    "stages": [_stage(each) for each in of_one.values()],
                }
                for execution_id, of_one in by_execution.items()
            ],
        )

    async def of_execution(self, job_id: str, execution_id: str) -> list[StageReport]:
        """Return the reports of an execution of a job, by stage; their files have no bytes."""
        query = {"_id": {"$eq": object_id(execution_id) or execution_id}, "grading_job_id": {"$eq": job_id}}
        document = await self._reports.find_one(query)
        stages = document["stages"] if document else []
        return [StageReport(job_id, execution_id, each["stage"], _reported(each)) for each in stages]

    async def of_executions(self, execution_ids: Sequence[str]) -> dict[str, list[StageReport]]:
        """Return the reports of executions by execution id; executions without reports are left out."""
        found = await self._reports.find_by_ids([object_id(each) or each for each in execution_ids])
        return {
            identity: [
                StageReport(document["grading_job_id"], identity, each["stage"], _reported(each)) for each in stages
            ]
            for document in found
            if (identity := str(document["_id"])) and (stages := document["stages"])
        }

    async def results_of(self, executions: Sequence[str]) -> dict[str, dict[str, CaseResult]]:
        """Return the results of the tests of each execution's last report; those without one are left out."""
        found = await self._reports.find_by_ids([object_id(each) or each for each in executions], {"stages": 1})
        last = {str(each["_id"]): max(each["stages"], key=lambda stage: int(stage["stage"])) for each in found}
        packed = {each: stage["report"] for each, stage in last.items() if stage.get("report")}
        return await beside(len(packed), lambda: {each: _results(text) for each, text in packed.items()})

    async def remove(self, job_id: str, executions: Sequence[str]) -> None:
        """Remove the reports of executions of a job; the bytes of their files, which other reports may have, stay."""
        await self._remove({"grading_job_id": {"$eq": job_id}}, executions)

    async def remove_of(self, executions: Sequence[str]) -> None:
        """Remove the reports of executions, a bounded number; the bytes of files are swept later."""
        await self._remove({}, executions)

    async def count_of(self, executions: Sequence[str]) -> int:
        """Return how many of some executions have reports."""
        return len(await self._reports.find_by_ids([object_id(each) or each for each in executions], {"_id": 1}))

    async def _remove(self, query: Document, executions: Sequence[str]) -> None:
        own: Document = {"_id": {"$in": [object_id(each) or each for each in executions]}, **query}
        found = await self._reports.find(own, {"stages.files.sha256": 1})
        files = {file["sha256"] for each in found for stage in each["stages"] for file in stage.get("files") or ()}
        if files:
            await self._note_unused(sorted(files))
        await self._reports.delete_many(own)

    async def file(self, sha256: str) -> bytes | None:
        """Return the bytes of a file, or None."""
        document = await self._files.find_one({"_id": {"$eq": sha256}})
        return unpacked(document["data"]) if document else None


def plain_report(document: Document) -> Document:
    """Return the document of an execution's reports with the reports as text."""
    stages = [{**each, "report": _text(each["report"]) if each.get("report") else None} for each in document["stages"]]
    return {**document, "stages": stages}


def _stage(report: StageReport) -> Document:
    reported = report.reported
    packed = zlib.compress(reported.report.stored().encode(), _LEVEL) if reported.report else None
    return {
        "stage": report.stage,
        "report": packed,
        "problem": reported.problem,
        "files": [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in reported.files],
    }


def _reported(document: Document) -> Reported:
    packed = document.get("report")
    return Reported(
        report=Report.read(_text(packed)) if packed else None,
        problem=document.get("problem") or "",
        files=[OriginalFile.model_validate(each) for each in document.get("files") or []],
    )


def _results(packed: bytes) -> dict[str, CaseResult]:
    """Return the results of a stored report's tests, without reading the rest of it, which costs five times as much."""
    results: dict[str, CaseResult] = {}
    for test in json.loads(_text(packed)).get("tests", ()):
        score = test.get("score")
        results[test["key"]] = CaseResult(Status(test["status"]), None if score is None else Decimal(score))
    return results


def _text(packed: bytes) -> str:
    reader = zlib.decompressobj()
    text = reader.decompress(packed, _MAX_REPORT)
    if not reader.eof:
        raise CorruptFileError("a stored report is not complete")
    return text.decode()

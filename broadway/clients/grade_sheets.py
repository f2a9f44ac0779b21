"""Grades as files, and files of grades read again."""

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel

from broadway.clients.course import CourseSession
from broadway.messages.resources.grade_queries import ExportQuery, ImportQuery, MergeQuery
from broadway.messages.resources.grade_sheets import ExportView, ImportView, MergeView
from broadway.session import TRIES, segment

MADE_WITHIN = 600.0  # seconds for one piece of a file, or of an answer
Made = TypeVar("Made", bound=BaseModel)


class GradeSheets(CourseSession):
    """Files of an assignment's grades."""

    def export_grades(self, assignment: str, query: ExportQuery) -> ExportView:
        """Return grades as a new file, with the students that it could not name."""
        params = _params(query, answer="json")
        return self._made(ExportView, "GET", self._sheet(assignment, "export"), params)

    def merge_grades(self, assignment: str, data: bytes, query: MergeQuery) -> MergeView:
        """Return the file of a learning management system with grades in one column, and all without a counterpart."""
        params = _params(query, answer="json")
        return self._made(MergeView, "POST", self._sheet(assignment, "merge"), params, data)

    def import_grades(self, assignment: str, data: bytes, query: ImportQuery) -> ImportView:
        """Return the changes in a plain sheet; with ``apply`` they are made. A repetition finds them made."""
        return self._made(ImportView, "POST", self._sheet(assignment, "import"), _params(query), data)

    def _sheet(self, assignment: str, task: str) -> str:
        return self._path(f"assignments/{segment(assignment)}/grades/{task}")

    def _made(
        self, shape: type[Made], method: str, path: str, params: Mapping[str, Any], data: bytes | None = None
    ) -> Made:
        headers = self._headers if data is None else {**self._headers, "Content-Type": "text/csv"}

        def send() -> httpx2.Response:
            return self._send(method, path, headers, params=params, content=data, timeout=MADE_WITHIN)

        return self._as(shape, self._read(self._repeated(send, TRIES)))


def _params(query: BaseModel, **more: str) -> dict[str, Any]:
    return {**query.model_dump(mode="json", exclude_defaults=True), **more}

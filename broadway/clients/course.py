"""Requests about one course."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import httpx2

from broadway.messages.resources.ids import IdsView
from broadway.session import Answer, Session, Waiting, opened, segment, silently


class CourseSession(Session):
    """A session about one course.

    Args:
        http: A client with the server's address.
        course: The course's id.
        token: One of its tokens, or a student's own.
    """

    def __init__(self, http: httpx2.Client, *, course: str, token: str, waiting: Waiting = silently) -> None:
        super().__init__(http, token=token, waiting=waiting)
        self._course = segment(course)

    @classmethod
    @contextmanager
    def connect(
        cls, server: str, *, course: str, token: str, ca_file: Path | None = None, waiting: Waiting = silently
    ) -> Iterator[Self]:
        """Connect to the server at an address such as ``http://127.0.0.1:1470``.

        ``ca_file`` has authorities to trust besides the system's; ``waiting`` as for ``Session``.
        """
        with opened(server, ca_file) as http:
            yield cls(http, course=course, token=token, waiting=waiting)

    def _path(self, rest: str) -> str:
        return f"/api/v2/courses/{self._course}/{rest}"

    def _items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        return self._pages(self._path(path), **query)

    def _of_run(self, run_id: str, ask: Callable[[str], Answer]) -> Answer:
        """Ask about a run by its id or the beginning of it."""
        return self._by_id(run_id, ask, lambda: self._ids(run_id).runs)

    def _of_job(self, job_id: str, ask: Callable[[str], Answer]) -> Answer:
        """Ask about a job by its id or the beginning of it."""
        return self._by_id(job_id, ask, lambda: self._ids(job_id).jobs)

    def _ids(self, prefix: str) -> IdsView:
        """Return the ids of runs and jobs that begin with ``prefix``."""
        return self._as(IdsView, self._request("GET", self._path(f"ids?{urlencode({'prefix': prefix})}")))

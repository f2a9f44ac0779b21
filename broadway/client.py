"""A typed client of the HTTP interface, for course staff and scripts."""

from pydantic import BaseModel

from broadway.clients.access import Access
from broadway.clients.callbacks import Callbacks
from broadway.clients.grade_sheets import GradeSheets
from broadway.clients.grades import Grades
from broadway.clients.hooks import Hooks
from broadway.clients.jobs import JobLog
from broadway.clients.live_logs import LiveLogs
from broadway.clients.operators import GraderDescription, Operator
from broadway.clients.regrades import Regrades
from broadway.clients.retention import Retention
from broadway.clients.runs import JobDescription, RunDescription, Runs
from broadway.session import ClientError

__all__ = [
    "Client",
    "ClientError",
    "GraderDescription",
    "JobDescription",
    "JobLog",
    "Operator",
    "RunDescription",
    "Worker",
]


class Worker(BaseModel):
    """One grader, as v1 describes it."""

    hostname: str
    jobs_processed: int
    busy: bool
    alive: bool


class Client(Runs, LiveLogs, Hooks, Callbacks, Access, Grades, GradeSheets, Regrades, Retention):
    """A client for one course: with ``Client.connect(…) as client``.

    Each of its resources has a module in ``broadway/clients``.
    """

    def workers(self) -> list[Worker]:
        answer = self._request("GET", f"/api/v1/worker/{self._course}/all")
        return [self._as(Worker, worker) for worker in self._list(answer, "data", "worker_nodes")]

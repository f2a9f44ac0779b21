"""The order in which collections are read while services write, and documents that are newer than the rest. Pure.

A backup reads one collection after another while services go on, without a snapshot. Parents are read before their
children: submissions, deliveries, runs, jobs, outcomes. Services write a child before they mark its parent as having
it, such as a run as complete after its jobs' outcomes. So the mark of a parent in the backup implies the child in it.
A child whose parent is missing was made after the parent's collection was read, and is left out by a restore. The rest
is a state that a crash of all services at some moment could have left, which they repair in any case.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from broadway.domain.submission import UPLOADS

# Parents first. Collections that are not named come between these and the last ones: settings, people, and
# documents that only refer to others.
FIRST = (
    "primary/regrade",
    "primary/regrade_part",
    "primary/submission",
    "primary/hook_delivery",
    "primary/grading_run",
    "primary/run_students",
    "primary/grading_job",
    "primary/work_result",
    "primary/job_outcome",
    "primary/artifact",
    "primary/job_report",
    "primary/report_file",
    "logs/job_log",
    "primary/grade_book_published",
    "primary/grade_book",
    "primary/grade_entries",
    "primary/callback_event",
    "primary/callback_delivery",
)
LAST = ("primary/blob",)

# Leases end by themselves. An ended sign-in must not come back; people sign in again.
LEFT_OUT = frozenset({"primary/service_lease", "primary/page_session"})
# Services write these when they start, so a site that has nothing else is empty.
OF_SERVICES = frozenset(
    {*LEFT_OUT, "primary/migration", "primary/service_secret", "primary/pool", "primary/worker_node"}
)
# Clocks differ, and a parent may have been removed: an older child without a parent is kept.
MARGIN = timedelta(hours=1)

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent of a collection's documents: its place, its id in a document, and the field of the document's time."""

    place: str
    of: Callable[[Document], str | None]
    time: str


def _upload(hook: Any, submission: Any) -> str | None:
    return str(submission) if isinstance(hook, str) and hook.startswith(UPLOADS) else None


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _triggered(run: Document) -> str | None:
    trigger = run.get("trigger")
    return _upload(trigger.get("hook"), trigger.get("version")) if isinstance(trigger, Mapping) else None


PARENTS: Mapping[str, tuple[Parent, ...]] = {
    "primary/hook_delivery": (
        Parent("primary/submission", lambda each: _upload(each.get("hook"), each.get("delivery_id")), "received_at"),
    ),
    "primary/grading_run": (
        Parent("primary/submission", _triggered, "started_at"),
        Parent("primary/regrade", lambda each: _text(each.get("regrade")), "started_at"),
    ),
    "primary/grading_job": (
        Parent("primary/grading_run", lambda each: _text(each.get("grading_run_id")), "queued_at"),
    ),
    "primary/work_result": (
        Parent("primary/grading_job", lambda each: str(each["_id"]).partition(":")[0], "finished_at"),
    ),
    "primary/job_outcome": (
        Parent("primary/grading_job", lambda each: _text(each.get("grading_job_id")), "finished_at"),
    ),
}


def following(places: Iterable[str]) -> list[str]:
    """Return the places to read after the first ones, in their order.

    The first ones are read in any case: services may make a collection, such as that of the outcomes, meanwhile.
    """
    return [*(place for place in sorted(places) if place not in {*FIRST, *LAST, *LEFT_OUT}), *LAST]


def is_newer(document: Document, parent: Parent, begun: datetime) -> bool:
    """Return whether a document without this parent was made after a backup had begun."""
    at = document.get(parent.time)
    return isinstance(at, datetime) and at.replace(tzinfo=UTC) >= begun - MARGIN

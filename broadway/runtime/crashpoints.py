"""Named points between two effects, at which the fault suite makes a process die, raise, stall or be cancelled.

The system must recover from a crash between any two steps. The fault suite verifies that at every point of this list,
with real processes. ``BROADWAY_CRASH_FILE`` names a file that arms them at their start: while the file holds the name
of a point and a mode, the first process that reaches the point removes the file and fails in that mode. In an unarmed
process a point costs one comparison.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

VARIABLE = "BROADWAY_CRASH_FILE"
KILLED = 137  # the exit status that shells report for a process ended by SIGKILL
STALL = 4.0  # seconds; longer than a lease in the fault suite


class Point(StrEnum):
    """Points at which a crash is tested. Each is named after the effect just before it, or just after it."""

    SUBMIT_CHECKED = "submit.checked"
    SUBMIT_STUDENTS_STORED = "submit.students-stored"
    SUBMIT_UNSETTLED = "submit.unsettled"
    SUBMIT_STORED = "submit.stored"
    SUBMIT_STEPPED = "submit.stepped"
    STEP_PLANNED = "step.planned"
    STEP_JOBS_STORED = "step.jobs-stored"
    STEP_STORED = "step.stored"
    ANNOUNCE_BEGUN = "announce.begun"
    ANNOUNCE_JOBS_PUBLISHED = "announce.jobs-published"
    ANNOUNCE_MARKED = "announce.marked"
    ANNOUNCE_TOLD = "announce.told"
    OUTBOX_PUBLISHED_ONE = "outbox.published-one"
    ORDER_STORED = "order.stored"
    ORDER_JOBS_MOVED = "order.jobs-moved"
    ORDER_DONE = "order.done"
    CANCEL_STORED = "cancel.stored"
    LETTER_RERUN = "letter.rerun"
    FORGET_USER_CLOSED = "forget.user-closed"
    UPLOAD_COUNTED = "upload.counted"
    UPLOAD_CONTENTS_STORED = "upload.contents-stored"
    UPLOAD_STORED = "upload.stored"
    UPLOAD_DELIVERED = "upload.delivered"
    ARTIFACTS_CONTENTS_STORED = "artifacts.contents-stored"
    ARTIFACTS_STORED = "artifacts.stored"
    REGRADE_STORED = "regrade.stored"
    REGRADE_PARTS_STORED = "regrade.parts-stored"
    REGRADE_PLANNED = "regrade.planned"
    REGRADE_PART_BEGUN = "regrade.part-begun"
    REGRADE_READY = "regrade.ready"
    REGRADE_PUBLISHING = "regrade.publishing"
    REGRADE_PUBLISHED = "regrade.published"
    REGRADE_DISCARDED = "regrade.discarded"
    REGRADE_CLEANED = "regrade.cleaned"

    GRADES_ENTRIES_STORED = "grades.entries-stored"
    GRADES_VERSION_STORED = "grades.version-stored"
    GRADES_POINTER_MOVED = "grades.pointer-moved"

    RETENTION_SUBMISSIONS_REMOVED = "retention.submissions-removed"
    RETENTION_NOTED = "retention.noted"
    RETENTION_RUNS_REMOVED = "retention.runs-removed"
    RETENTION_JOBS_REMOVED = "retention.jobs-removed"

    DELETION_ORDERED = "deletion.ordered"
    DELETION_COUNTED = "deletion.counted"
    DELETION_WITHDRAWN = "deletion.withdrawn"
    DELETION_CANCELLED = "deletion.cancelled"
    DELETION_JOBS_CLEARED = "deletion.jobs-cleared"
    DELETION_RUNS_CLEARED = "deletion.runs-cleared"
    DELETION_CHUNKS_STORED = "deletion.chunks-stored"
    DELETION_VERSION_POINTED = "deletion.version-pointed"
    DELETION_GRADES_REMOVED = "deletion.grades-removed"
    DELETION_NAMES_REPLACED = "deletion.names-replaced"

    PUSH_KEPT = "push.kept"
    PUSH_CLAIMED = "push.claimed"
    PUSH_RUN_STORED = "push.run-stored"
    PUSH_DECIDED = "push.decided"
    PUSH_SUPERSEDED = "push.superseded"

    PUBLISH_BEGUN = "publish.begun"
    PUBLISH_CONFIRMED = "publish.confirmed"
    DELIVERY_ARRIVED = "delivery.arrived"
    DELIVERY_HANDLED = "delivery.handled"
    DELIVERY_ACKNOWLEDGED = "delivery.acknowledged"

    LEAD_ACQUIRED = "lead.acquired"
    LEAD_RENEWED = "lead.renewed"
    LEAD_EMPTIED = "lead.emptied"
    HOLD_DELIVERED = "hold.delivered"
    HOLD_LOOKED_UP = "hold.looked-up"
    HOLD_SETTLED = "hold.settled"
    DISPATCH_PICKED = "dispatch.picked"
    DISPATCH_STAGES_READ = "dispatch.stages-read"
    DISPATCH_HANDED_OVER = "dispatch.handed-over"
    FOLLOW_HEARD = "follow.heard"
    FOLLOW_DONE = "follow.done"
    SWEEP_BEGUN = "sweep.begun"
    SWEEP_REFRESHED = "sweep.refreshed"
    SWEEP_DONE = "sweep.done"
    SWEEP_THOROUGH = "sweep.thorough"

    WORK_DELIVERED = "work.delivered"
    WORK_START_TOLD = "work.start-told"
    WORK_RUNNING = "work.running"
    WORK_GRADED = "work.graded"
    SPOOL_APPENDED = "spool.appended"
    WORK_SPOOLED = "work.spooled"
    WORK_OUTCOME_TOLD = "work.outcome-told"
    WORK_UNSPOOLED = "work.unspooled"
    WORK_ARTIFACTS_SENT = "work.artifacts-sent"
    GRADE_ARTIFACTS_COLLECTED = "grade.artifacts-collected"
    GRADE_FILES_LAID_OUT = "grade.files-laid-out"
    SPOOL_CONFIRMED = "spool.confirmed"
    GRADE_DIRECTORY_MADE = "grade.directory-made"
    GRADE_IMAGES_READY = "grade.images-ready"
    GRADE_STAGE_ENDED = "grade.stage-ended"
    GRADE_DIRECTORY_KEPT = "grade.directory-kept"
    BEAT_BEGUN = "beat.begun"

    OUTCOME_INSERTED = "outcome.inserted"
    OUTCOME_OF_WORK_STORED = "outcome.of-work-stored"
    OUTCOME_OF_WORK_KEPT = "outcome.of-work-kept"
    RECORD_BEGUN = "record.begun"
    RECORD_FILES_STORED = "record.files-stored"
    RECORD_REPORTS_STORED = "record.reports-stored"
    RECORD_LARGE_LOGS_STORED = "record.large-logs-stored"
    RECORD_JOBS_STORED = "record.jobs-stored"
    RECORD_LOGS_STORED = "record.logs-stored"
    RECORD_GRADERS_STORED = "record.graders-stored"
    RECORD_TOLD = "record.told"

    CALLBACK_STORED = "callback.stored"
    CALLBACK_EMITTED = "callback.emitted"
    CALLBACK_CLAIMED = "callback.claimed"
    CALLBACK_COMPLETED = "callback.completed"
    CALLBACK_DELIVERIES_STORED = "callback.deliveries-stored"
    CALLBACK_EVENT_DONE = "callback.event-done"
    CALLBACK_TAKEN = "callback.taken"
    CALLBACK_SENT = "callback.sent"
    CALLBACK_RECORDED = "callback.recorded"

    MIGRATION_CLAIMED = "migration.claimed"
    MIGRATION_APPLIED = "migration.applied"


class CrashPointError(RuntimeError):
    """The error that a point raises in mode ``raise``."""


class _Armed:
    """The file that names the point and the mode of a failure; None in an unarmed process."""

    file: Path | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Arm the points of this process with the file that an environment names, or disarm them."""
    _Armed.file = Path(environment[VARIABLE]) if VARIABLE in environment else None


async def reach(point: Point) -> None:
    """Return at once, unless the armed file names this point.

    Modes: ``exit`` ends the process at once, ``raise`` raises an unexpected error, ``cancel`` cancels the task as a
    broken connection does, and ``hang`` returns after ``STALL`` seconds.
    """
    if _Armed.file is not None and (mode := _claim(_Armed.file, point)):
        await _fail(point, mode)


def reach_blocking(point: Point) -> None:
    """Do the same as ``reach`` in a thread."""
    if _Armed.file is not None and (mode := _claim(_Armed.file, point)):
        match mode:
            case "hang":
                time.sleep(STALL)
            case "exit":
                os._exit(KILLED)
            case "raise":
                raise CrashPointError(point.value)
            case _:
                raise asyncio.CancelledError(point.value)


def _claim(file: Path, point: Point) -> str | None:
    """Return the mode if the file names this point; renaming the file makes sure that only one process fails."""
    with suppress(OSError, ValueError):
        name, mode = file.read_text().split()
        if name == point.value:
            file.rename(file.with_suffix(".taken"))
            return mode
    return None


async def _fail(point: Point, mode: str) -> None:
    match mode:
        case "exit":
            os._exit(KILLED)
        case "raise":
            raise CrashPointError(point.value)
        case "cancel":
            raise asyncio.CancelledError(point.value)
        case _:
            await asyncio.sleep(STALL)

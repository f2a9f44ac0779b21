"""Named places between two effects, at which the fault suite lets a process die, break, stall or be cancelled.

A crash between any two steps has to be repaired by what comes after it. That is tried at every point of this list, with
real processes, which ``BROADWAY_CRASH_FILE`` arms at their start: while the file of that name holds the name of a point
and a mode, the first process that gets there takes the file away and suffers what it says. In a process that is not
armed a point costs a comparison.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

VARIABLE = "BROADWAY_CRASH_FILE"
KILLED = 137  # the status of a process that ended by SIGKILL, as shells tell it
STALL = 4.0  # seconds; longer than a lease, where it is tried


class Point(StrEnum):
    """Where a crash is tried. Each name says what has just happened, or is about to."""

    SUBMIT_CHECKED = "submit.checked"
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

    PUBLISH_BEGUN = "publish.begun"
    PUBLISH_CONFIRMED = "publish.confirmed"
    DELIVERY_ARRIVED = "delivery.arrived"
    DELIVERY_HANDLED = "delivery.handled"
    DELIVERY_ACKNOWLEDGED = "delivery.acknowledged"

    LEAD_ACQUIRED = "lead.acquired"
    LEAD_RENEWED = "lead.renewed"
    HOLD_DELIVERED = "hold.delivered"
    HOLD_LOOKED_UP = "hold.looked-up"
    HOLD_SETTLED = "hold.settled"
    DISPATCH_PICKED = "dispatch.picked"
    DISPATCH_STORED = "dispatch.stored"
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
    WORK_SPOOLED = "work.spooled"
    WORK_OUTCOME_TOLD = "work.outcome-told"
    WORK_UNSPOOLED = "work.unspooled"
    GRADE_DIRECTORY_MADE = "grade.directory-made"
    GRADE_IMAGES_READY = "grade.images-ready"
    GRADE_STAGE_ENDED = "grade.stage-ended"
    BEAT_BEGUN = "beat.begun"

    RECORD_BEGUN = "record.begun"
    RECORD_LOGS_STORED = "record.logs-stored"
    RECORD_JOBS_STORED = "record.jobs-stored"
    RECORD_GRADERS_STORED = "record.graders-stored"
    RECORD_TOLD = "record.told"


class CrashPointError(RuntimeError):
    """A point was told to break."""


class _Armed:
    """The file that tells this process where to suffer, and how; None in a process that is not armed."""

    file: Path | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Make the points of this process heed the file that an environment names, or none."""
    _Armed.file = Path(environment[VARIABLE]) if VARIABLE in environment else None


async def reach(point: Point) -> None:
    """Go on, unless this is where it was to happen.

    Modes: ``exit`` ends the process at once, ``raise`` is an error of nobody's, ``cancel`` cancels the task as a broken
    connection does, and ``hang`` goes on much later.
    """
    if _Armed.file is not None and (mode := _taken(_Armed.file, point)):
        await _suffer(point, mode)


def _taken(file: Path, point: Point) -> str | None:
    """The mode, if it is this process's turn: only one can move the file away."""
    with suppress(OSError, ValueError):
        name, mode = file.read_text().split()
        if name == point.value:
            file.rename(file.with_suffix(".taken"))
            return mode
    return None


async def _suffer(point: Point, mode: str) -> None:
    match mode:
        case "exit":
            os._exit(KILLED)
        case "raise":
            raise CrashPointError(point.value)
        case "cancel":
            raise asyncio.CancelledError(point.value)
        case _:
            await asyncio.sleep(STALL)

"""The record of a stage, from the engine's description of its ended container."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from broadway.domain.assignment import Stage
from broadway.domain.result import Usage
from broadway.grader.docker.container import Container
from broadway.grader.ports import KilledFor, StageRun


def record_of(
    container: Container,
    stage: Stage,
    details: Mapping[str, Any],
    killed_for: KilledFor | None,
    *,
    create_seconds: float,
    start_seconds: float,
) -> StageRun:
    """Return the record of a stage that ran; ``details`` is the engine's description of the container."""
    state, meter = details["State"], container.meter
    text, streams = container.output.kept() if stage.logs else ("", [])
    started, finished = (datetime.fromisoformat(state[key]) for key in ("StartedAt", "FinishedAt"))
    return StageRun(
        exit_code=state["ExitCode"],
        killed_for=killed_for,
        oom_killed=state["OOMKilled"],
        started_at=started,
        finished_at=max(started, finished),  # an engine may record the start of a very short stage after its end
        output=text,
        streams=streams,
        output_bytes=container.output.total,
        state=state,
        usage=Usage(
            image=details["Image"],
            create_seconds=create_seconds,
            start_seconds=start_seconds,
            cpu_seconds=meter.cpu_seconds() if meter else None,
            peak_memory=meter.peak_memory() if meter else None,
        ),
    )

"""The bodies and headers of callbacks: Standard Webhooks, or CloudEvents in structured JSON. Pure."""

import json
from datetime import UTC, datetime
from typing import Any

from broadway.domain.callback import CallbackEvent, CallbackType
from broadway.domain.callback_delivery import Endpoint, PayloadFormat, signatures
from broadway.domain.job import Job, Phase
from broadway.domain.result import StageResult
from broadway.domain.run import Run
from broadway.domain.settlement import Settlement

MAX_TEXT = 1000  # characters of a text in a payload, so that a body stays below 20 kB

_CONTENT_TYPES = {
    PayloadFormat.STANDARD: "application/json",
    PayloadFormat.CLOUDEVENTS: "application/cloudevents+json",
}


def body_of(event: CallbackEvent, form: PayloadFormat) -> bytes:
    """Return the body of a callback, the same for each attempt."""
    time, data = event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"), {"course": event.course, **event.data}
    document: dict[str, Any] = {"type": event.type.value, "timestamp": time, "data": data}
    if form is PayloadFormat.CLOUDEVENTS:
        document = {
            "specversion": "1.0",
            "id": event.id,
            "source": f"/broadway/courses/{event.course}",
            "type": f"io.broadway.callback.{event.type.value}",
            "subject": event.subject,
            "time": time,
            "datacontenttype": "application/json",
            "data": data,
        }
    return json.dumps(document, separators=(",", ":"), default=str).encode()


def headers_of(event: CallbackEvent, endpoint: Endpoint, body: bytes, now: datetime) -> dict[str, str]:
    """Return the headers of an attempt at ``now``, which is the time that is signed."""
    timestamp = int(now.timestamp())
    return {
        "content-type": _CONTENT_TYPES[endpoint.format],
        "user-agent": "broadway-callbacks/1",
        "accept-encoding": "identity",
        "webhook-id": event.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures(endpoint.secrets(now), event.id, timestamp, body),
    }


def job_data(job: Job, settlement: Settlement) -> dict[str, Any]:
    """Return the data of a job's end. The report has all details; it is read by its address."""
    results = [StageResult.read(entry) for entry in settlement.results or []]
    scores = next((result.scores for result in reversed(results) if result.scores), None)
    return {
        "job": job.id,
        "run": job.run_id,
        "assignment": job.assignment[:MAX_TEXT],
        "phase": job.phase.value,
        "generation": settlement.generation,
        "status": "finished",
        "outcome": settlement.outcome.value,
        "reason": settlement.reason[:MAX_TEXT],
        "score": scores.score if scores else None,
        "max_score": scores.max_score if scores else None,
        "url": f"/api/v2/courses/{job.course}/jobs/{job.id}",
    }


def with_student(data: dict[str, Any], job: Job, run: Run | None) -> dict[str, Any]:
    """Return the data of a job's end with the student whose submission started the run, if the run names one."""
    student = run.trigger.get("student") if run and run.trigger and job.phase is Phase.STUDENTS else None
    return data | {"student": student}


def run_data(run: Run, round_: int) -> dict[str, Any]:
    """Return the data of a run's end in a round. A later round may have begun meanwhile."""
    return {
        "run": run.id,
        "assignment": run.assignment[:MAX_TEXT],
        "round": round_,
        "status": run.state.slug,
        "success": run.has_succeeded,
        "students": run.students,
        "url": f"/api/v2/courses/{run.course}/runs/{run.id}",
    }


TYPES = tuple(each for each in CallbackType if each is not CallbackType.PING)

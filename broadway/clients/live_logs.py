"""Following a job's log while it runs: each line once, through broken connections, up to the stored log."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx2

from broadway.clients.changes import OUTAGE, changes
from broadway.clients.jobs import Jobs
from broadway.messages.resources.jobs import LogLine, LogView
from broadway.runtime.http_errors import UNSENT, why
from broadway.session import ClientError

STORED_WITHIN = 15.0  # seconds; the log of a job that was cancelled may never come
PAUSE = 2.0  # seconds before a broken stream is opened again
SILENCE = 60.0  # seconds without a byte, of which the server sends some every 20
_MISSING, _FULL = 404, 503


@dataclass(frozen=True, slots=True)
class Shown:
    """A part of a followed log: lines, a remark about the lines before and after it, or the outcome of the job."""

    lines: Sequence[str] = ()
    remark: str = ""
    outcome: str | None = None


@dataclass(slots=True)
class _Place:
    """The lines of an attempt that were shown: the number of the last one, and itself, by stage.

    ``stage`` is the one that was named last.
    """

    after: str = ""
    attempt: str = ""
    stage: int | None = None
    lines: dict[int, int] = field(default_factory=dict)
    last: dict[int, tuple[str | None, str]] = field(default_factory=dict)

    def take(self, event: Any) -> Iterator[Shown]:
        """Yield the new lines of an event."""
        stage, first = int(event["stage"]), int(event["line"])
        lines = [LogLine(stage=stage, **line) for line in event["lines"]]
        new = lines[max(0, self.lines.get(stage, 0) + 1 - first) :]
        if new:
            self.lines[stage] = first + len(lines) - 1
            self.last[stage] = (new[-1].at, new[-1].text)
        yield from self._told(stage, new)

    def rest(self, log: LogView) -> Iterator[Shown]:
        """Yield the lines of the stored log that were not shown."""
        if log.attempt and log.attempt != self.attempt:
            self.lines.clear()
            self.stage = None
        for stage in dict.fromkeys(line.stage for line in log.lines):
            lines = [line for line in log.lines if line.stage == stage]
            yield from self._rest_of(stage, lines)

    def _rest_of(self, stage: int | None, lines: Sequence[LogLine]) -> Iterator[Shown]:
        shown = self.lines.get(stage, 0) if stage is not None else 0
        dropped = next((index for index, line in enumerate(lines) if stage is not None and line.stream is None), None)
        if dropped is None or shown <= dropped or stage is None:
            yield from self._told(stage, lines[shown:])
            return
        # The stored log has a beginning and an end, and the last line that was shown is in neither or in the end.
        ends = [
            dropped + 1 + index
            for index, line in enumerate(lines[dropped + 1 :])
            if self.last[stage] == (line.at, line.text)
        ]
        if not ends:
            yield Shown(remark="lines are missing here")
        yield from self._told(stage, lines[ends[-1] + 1 if ends else dropped + 1 :])

    def _told(self, stage: int | None, lines: Sequence[LogLine]) -> Iterator[Shown]:
        """Yield lines of a stage, after its name if the lines before them are of another one."""
        if not lines:
            return
        if stage is not None and stage != self.stage:
            self.stage = stage
            yield Shown(remark=f"stage {stage + 1}")
        yield Shown([line.text for line in lines])


class LiveLogs(Jobs):
    """The logs of jobs, while they run."""

    def follow_log(self, job_id: str) -> Iterator[Shown]:
        """Yield a job's log while the job runs, each line once or with a remark that lines are missing, to its end.

        If the server cannot stream the log, it comes when the job has ended.

        Raises:
            ClientError: The server refuses the request, or cannot be reached at first or for too long.
        """
        path = self._of_job(job_id, self._streamed)
        place, answered = _Place(), time.monotonic()
        outcome: str | None = None
        while outcome is None:
            try:
                for shown in self._stream(path, place):
                    answered = time.monotonic()
                    if shown.outcome is None:
                        yield shown
                    else:
                        outcome = shown.outcome
            except ClientError as error:
                if error.status in (_MISSING, _FULL):
                    yield Shown(remark="no live log; the log comes when the job has ended")
                    break
                if not error.may_pass or time.monotonic() - answered > OUTAGE:
                    raise
                self._waiting(PAUSE, str(error))
                self._pause(PAUSE)
        stored = self._stored(path, within=float("inf") if outcome is None else STORED_WITHIN)
        yield from place.rest(stored) if stored else [Shown(remark="the grader has handed in no log of this job")]
        yield Shown(outcome=outcome or "")

    def _streamed(self, job: str) -> str:
        """Return the path of an existing job's log."""
        path = self._path(f"jobs/{job}/log")
        try:
            for _ in self._stream(path, _Place(), is_trial=True):
                pass
        except ClientError as error:
            if error.status == _MISSING:
                self._request("GET", self._path(f"jobs/{job}"))  # an older server has the job, but no stream
            elif error.status != _FULL:
                raise
        return path

    def _stream(self, path: str, place: _Place, *, is_trial: bool = False) -> Iterator[Shown]:
        """Yield the events of one connection, which may end early."""
        query = f"?{urlencode({'after': place.after})}" if place.after else ""
        timeout = httpx2.Timeout(30, read=SILENCE)
        try:
            with self._http.stream("GET", f"{path}/stream{query}", headers=self._headers, timeout=timeout) as answer:
                if not answer.is_success or answer.is_redirect:
                    answer.read()
                    self._read(answer)
                if is_trial:
                    return
                for event in httpx2.EventSource(answer):
                    if event.data:
                        yield from _shown(event, place)
        except UNSENT as error:
            raise ClientError(f"the stream from {self._where} broke: {why(error)}") from error

    def _stored(self, path: str, *, within: float) -> LogView | None:
        """Return the stored log, once the job has ended; None if there is none after ``within`` seconds."""

        def look() -> dict[str, Any] | None:
            try:
                return self._request("GET", path)
            except ClientError as error:
                if error.status == _MISSING:
                    return None
                raise

        found = changes(look, lambda _: True, within=within, pause=self._pause, waiting=self._waiting)
        answer = next(iter(found), None)
        return None if answer is None else self._as(LogView, answer)


def _shown(event: httpx2.ServerSentEvent, place: _Place) -> Iterator[Shown]:
    data: Any = event.json()
    match event.event:
        case "queue":
            yield Shown(remark=data["text"])
        case "attempt":
            if place.attempt and place.attempt != data["id"]:
                place.lines.clear()
                place.stage = None
                yield Shown(remark=f"attempt {data['attempt']} begins")
            place.attempt = data["id"]
            if data["note"]:
                yield Shown(remark=data["note"])
        case "gap":
            number = data["lines"]
            yield Shown(remark=f"{number} lines are missing here" if number else "lines are missing here")
        case "lines":
            yield from place.take(data)
        case "end":
            yield Shown(outcome=data["outcome"])
    place.after = event.id or place.after

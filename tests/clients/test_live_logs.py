"""A followed log has each line once, through broken connections, and ends with the stored log."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest

from broadway.client import Client
from broadway.clients import live_logs
from broadway.clients.live_logs import Shown
from broadway.session import ClientError

JOB = "a" * 24
LOG = f"/api/v2/courses/cs1/jobs/{JOB}/log"


def event(name: str, identity: str = "1-0-0", **data: Any) -> str:
    return f"id: {identity}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


def attempt(number: int = 1, execution: str = "e1", note: str = "") -> str:
    return event("attempt", f"{number}-0-0", attempt=number, id=execution, live=not note, note=note)


def lines(first: int, *texts: str, stage: int = 0, number: int = 1) -> str:
    told = [{"at": None, "stream": "stdout", "text": text} for text in texts]
    identity = f"{number}-{stage}-{first + len(texts) - 1}"
    return event("lines", identity, attempt=number, stage=stage, line=first, lines=told)


END = event("end", attempt=1, outcome="succeeded")


class Server:
    """Answers each request for the stream with the next of its texts or statuses, and has a stored log."""

    def __init__(self, *streams: str | int, stored: Sequence[tuple[int | None, str | None, str]] | None = ()) -> None:
        self.streams = list(streams)
        self.stored = stored
        self.asked: list[str | None] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == f"{LOG}/stream":
            return self._stream(request)
        if request.url.path == LOG and self.stored is None:
            return httpx2.Response(404, json={"detail": "no log"})
        if request.url.path == LOG:
            found = [
                {"stage": stage, "at": None, "stream": stream, "text": text}
                for stage, stream, text in self.stored or ()
            ]
            return httpx2.Response(200, json={"job": JOB, "lines": found, "error": "", "attempt": "e1"})
        return httpx2.Response(200, json={"id": JOB})

    def _stream(self, request: httpx2.Request) -> httpx2.Response:
        answer = self.streams.pop(0) if self.asked else self.streams[0]  # the first request looks for the job
        self.asked.append(request.url.params.get("after"))
        if isinstance(answer, int):
            return httpx2.Response(answer, json={"detail": f"status {answer}"})
        return httpx2.Response(200, text="retry: 2000\n\n" + answer, headers={"content-type": "text/event-stream"})


@pytest.fixture
def follow() -> Callable[[Server], list[Shown]]:
    def followed(server: Server) -> list[Shown]:
        http = httpx2.Client(base_url="http://server", transport=httpx2.MockTransport(server))
        with http:
            client = Client(http, course="cs1", token="t")
            client._pause = lambda _: None  # noqa: SLF001 - no test waits
            return list(client.follow_log(JOB))

    return followed


def told(shown: Sequence[Shown], *, names: bool = False) -> list[str]:
    """Return the lines and remarks that were shown, those that name a stage only if ``names``."""
    remarks = [each.remark if names or not each.remark.startswith("stage ") else "" for each in shown]
    parts = zip(shown, remarks, strict=True)
    return [text for each, remark in parts for text in (*each.lines, *([f"[{remark}]"] if remark else []))]


OUT = "stdout"


def test_lines_are_shown_once_and_the_rest_comes_from_the_stored_log(follow: Any) -> None:
    server = Server(
        attempt() + lines(1, "a", "b") + END, stored=[(0, OUT, "a"), (0, OUT, "b"), (0, OUT, "c"), (1, OUT, "d")]
    )

    shown = follow(server)

    assert told(shown) == ["a", "b", "c", "d"]
    assert shown[-1].outcome == "succeeded"


def test_each_stage_is_named_once_in_an_attempt(follow: Any) -> None:
    server = Server(
        attempt(1, "e0")
        + lines(1, "a")
        + lines(2, "b")
        + attempt(2, "e1")
        + lines(1, "A")
        + lines(1, "B", stage=1)
        + END,
        stored=[(0, OUT, "A"), (1, OUT, "B"), (1, OUT, "C"), (2, OUT, "D"), (None, None, "of the grader")],
    )

    assert told(follow(server), names=True) == [
        *("[stage 1]", "a", "b", "[attempt 2 begins]"),
        *("[stage 1]", "A", "[stage 2]", "B", "C", "[stage 3]", "D", "of the grader"),
    ]


def test_a_job_whose_log_never_comes_has_an_end(follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_logs, "STORED_WITHIN", 0.01)
    server = Server(attempt() + END, stored=None)

    shown = follow(server)

    assert told(shown) == ["[the grader has handed in no log of this job]"]
    assert shown[-1].outcome == "succeeded"


def test_a_broken_connection_doubles_no_line(follow: Any) -> None:
    server = Server(
        attempt() + lines(1, "a", "b"),
        503 - 1,
        attempt() + lines(2, "b", "c") + END,
        stored=[(0, OUT, "a"), (0, OUT, "b"), (0, OUT, "c")],
    )

    assert told(follow(server)) == ["a", "b", "c"]
    assert server.asked == [None, None, "1-0-2", "1-0-2"]


def test_gaps_and_attempts_are_remarks(follow: Any) -> None:
    gap = event("gap", "1-0-1", attempt=1, stage=0, lines=3)
    server = Server(
        attempt() + lines(1, "a") + gap + lines(5, "e") + attempt(2, "e2") + lines(1, "A", number=2) + END, stored=[]
    )

    assert told(follow(server)) == ["a", "[3 lines are missing here]", "e", "[attempt 2 begins]", "A"]


def test_a_stored_log_that_was_cut_continues_after_the_last_line_or_with_a_remark(follow: Any) -> None:
    cut = [(0, OUT, "a"), (0, None, "... 9 bytes dropped ..."), (0, OUT, "y"), (0, OUT, "z")]

    assert told(follow(Server(attempt() + lines(1, "a") + END, stored=cut))) == [
        "a",
        "... 9 bytes dropped ...",
        "y",
        "z",
    ]
    assert told(follow(Server(attempt() + lines(1, "a", "b", "y") + END, stored=cut))) == ["a", "b", "y", "z"]
    expected = ["a", "b", "[lines are missing here]", "y", "z"]
    assert told(follow(Server(attempt() + lines(1, "a", "b") + END, stored=cut))) == expected


@pytest.mark.parametrize("status", [404, 503])
def test_without_a_stream_the_stored_log_comes(follow: Any, status: int) -> None:
    shown = told(follow(Server(status, status, stored=[(None, None, "a"), (None, None, "b")])))

    assert shown == ["[no live log; the log comes when the job has ended]", "a", "b"]


def test_a_refusal_ends_the_following(follow: Any) -> None:
    with pytest.raises(ClientError, match="status 403"):
        follow(Server(403))


def test_a_server_that_is_away_for_too_long_ends_the_following(follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_logs, "OUTAGE", -1.0)

    with pytest.raises(ClientError, match="status 500"):
        follow(Server(attempt(), 500))

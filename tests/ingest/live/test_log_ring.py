"""Readers of a live log get each line once and in order, or a visible gap; and only of stages that they may see."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.ingest.live.log_ring import Cursor, LogEvent, LogRing, Position
from broadway.messages.live_logs import LogChunk

IDS = {"course": "cs1", "run_id": "r1", "job_id": "j1", "generation": 1, "grader_id": "g1"}


def chunk(stage: int, line: int, offset: int, *lines: str, begins: bool = False, execution: str = "e1") -> LogChunk:
    text = "".join(f"2026-11-22T19:31:32.613854664Z {each}\n" for each in lines)
    fields = {"stage": stage, "line": line, "offset": offset, "text": text, "streams": [(1, len(lines))]}
    return LogChunk.model_validate({**IDS, **fields, "execution_id": execution, "begins": begins})


def ring(*chunks: LogChunk, **options: Any) -> LogRing:
    made = LogRing(**options)
    made.begin(1, "e1")
    for each in chunks:
        made.add(each)
    return made


def told(events: Iterable[LogEvent]) -> list[Any]:
    """Return events in short: lines as (stage, first number, texts), gaps as (stage, missing), others by name."""
    short: list[Any] = []
    for event in events:
        data = json.loads(event.data)
        if event.name == "lines":
            short.append((data["stage"], data["line"], [line["text"] for line in data["lines"]]))
        elif event.name == "gap":
            short.append(("gap", data["stage"], data["lines"]))
        else:
            short.append(event.name)
    return short


def test_a_new_reader_gets_the_backlog_then_what_follows() -> None:
    log, cursor = ring(chunk(0, 0, 0, "a", "b", begins=True)), Cursor()

    assert told(cursor.take(log)) == ["attempt", "stage", (0, 1, ["a", "b"])]
    assert cursor.take(log) == []
    log.add(chunk(0, 2, 2, "c"))
    log.add(chunk(1, 0, 3, "d"))
    assert told(cursor.take(log)) == [(0, 3, ["c"]), "stage", (1, 1, ["d"])]
    assert str(cursor.position) == "1-1-1"


def test_chunks_count_only_after_the_backlog_and_only_once() -> None:
    log = ring(chunk(0, 5, 5, "too early"), chunk(0, 3, 3, "d", "e", begins=True), chunk(0, 3, 3, "d", "e", "f"))

    assert told(Cursor().take(log)) == ["attempt", ("gap", 0, 3), "stage", (0, 4, ["d", "e"]), (0, 6, ["f"])]


def test_chunks_of_another_execution_are_dropped() -> None:
    log = ring(chunk(0, 0, 0, "forged", begins=True, execution="e0"))

    assert told(Cursor().take(log)) == ["attempt"]


def test_a_lost_chunk_is_a_gap() -> None:
    log = ring(chunk(0, 0, 0, "a", begins=True), chunk(0, 3, 3, "d"), chunk(2, 4, 9, "z"))

    found = told(Cursor().take(log))
    assert found == [
        "attempt",
        "stage",
        (0, 1, ["a"]),
        ("gap", 0, 2),
        (0, 4, ["d"]),
        ("gap", 2, 5),
        "stage",
        (2, 5, ["z"]),
    ]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("1-0-1", ["attempt", "stage", (0, 2, ["b"]), "stage", (1, 1, ["c"])]),
        ("1-0-2", ["attempt", "stage", (1, 1, ["c"])]),
        ("1-1-0", ["attempt", "stage", (1, 1, ["c"])]),
        ("1-1-1", ["attempt"]),
        ("1-1-9", ["attempt"]),
        ("0-0-0", ["attempt", "stage", (0, 1, ["a", "b"]), "stage", (1, 1, ["c"])]),
    ],
)
def test_a_reader_resumes_after_its_last_event(after: str, expected: list[Any]) -> None:
    position = Position.read(after)
    assert position is not None

    log = ring(chunk(0, 0, 0, "a", "b", begins=True), chunk(1, 0, 2, "c"))
    assert told(Cursor(position).take(log)) == expected


def test_a_reader_that_resumes_behind_the_backlog_sees_a_gap() -> None:
    log = ring(chunk(0, 7, 7, "h", begins=True))

    assert told(Cursor(Position(1, 0, 4)).take(log)) == ["attempt", ("gap", 0, 3), "stage", (0, 8, ["h"])]


def test_a_new_attempt_begins_anew_and_shows_what_was_missed_of_the_last() -> None:
    log, slow, quick = ring(chunk(0, 0, 0, "a", begins=True)), Cursor(), Cursor()
    slow.take(log), quick.take(log)
    log.add(chunk(0, 1, 1, "b"))
    quick.take(log)
    log.begin(2, "e2")
    log.add(chunk(0, 0, 0, "again", begins=True, execution="e2"))

    assert told(quick.take(log)) == ["attempt", "stage", (0, 1, ["again"])]
    assert told(slow.take(log)) == [("gap", None, None), "attempt", "stage", (0, 1, ["again"])]


def test_an_attempt_without_a_live_log_says_so_and_the_end_is_told() -> None:
    log, cursor = LogRing(), Cursor()
    assert cursor.take(log) == []
    log.begin(1, "e1", "no live log")
    (event,) = cursor.take(log)
    log.outcome = "succeeded"
    (last,) = cursor.take(log)

    assert json.loads(event.data) == {"attempt": 1, "id": "e1", "live": False, "note": "no live log"}
    assert (last.name, json.loads(last.data)) == ("end", {"attempt": 1, "outcome": "succeeded"})


def test_a_student_gets_no_line_of_a_hidden_stage_and_no_number_of_its_lines() -> None:
    log = ring(
        chunk(0, 0, 0, "mine", begins=True),
        chunk(1, 0, 1, "the hidden answer"),
        chunk(1, 3, 4, "secret"),
        chunk(2, 0, 6, "mine again"),
        chunk(3, 0, 8, "lost before"),
    )

    events = Cursor(sees=lambda stage: stage in (0, 2)).take(log)

    assert told(events) == ["attempt", "stage", (0, 1, ["mine"]), "stage", (2, 1, ["mine again"]), ("gap", None, None)]
    assert "secret" not in str(events)
    assert "hidden" not in str(events)


LINES = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=30)


@given(
    LINES, st.integers(200, 3000), st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29))
)
def test_each_line_comes_once_or_is_missed_visibly(
    stages: Sequence[tuple[int, int]], kept: int, lost: set[int], reads: set[int], resumes: set[int]
) -> None:
    """The log has chunks, of which some are lost; the reader reads after some of them, and reconnects after some."""
    log, cursor = ring(kept=kept), Cursor()
    got: list[Any] = []
    written: list[tuple[int, int]] = []
    numbers: dict[int, int] = {}
    for index, (stage, count) in enumerate(sorted(stages)):
        first = numbers.get(stage, 0)
        names = [f"{stage}/{first + n + 1}" for n in range(count)]
        if index not in lost:
            log.add(chunk(stage, first, len(written), *names, begins=not log.begun))
        written += [(stage, first + n + 1) for n in range(count)]
        numbers[stage] = first + count
        if index in resumes:
            cursor = Cursor(cursor.position)
        if index in reads or index == len(stages) - 1:
            got += told(cursor.take(log))

    check(got, written)
    assert log.cost <= max(kept, 900)


def check(got: Sequence[Any], written: Sequence[tuple[int, int]]) -> None:
    """Check that each line is in its place, or after a gap in a later one."""
    place, is_gap = 0, False
    for event in got:
        if event[0] == "gap":
            is_gap = True
        for number, text in enumerate(event[2], start=event[1]) if isinstance(event[0], int) else ():
            assert text == f"{event[0]}/{number}"
            found = written.index((event[0], number))
            assert found == place or (is_gap and found > place), got
            place, is_gap = found + 1, False

"""A job's log by line: stages and streams, from the merged text and the grader's report."""

from broadway.ingest.reads.log_lines import log_lines
from broadway.messages.resources.jobs import LogLine

AT = "2026-03-01T12:00:00.000000001Z"


def line(text: str, stage: int | None, stream: str | None, *, at: str | None = AT) -> LogLine:
    return LogLine(stage=stage, at=at, stream=stream, text=text)


def test_lines_have_their_stage_and_stream() -> None:
    text = f"{AT} out\n{AT} err\n{AT} \n... 5 bytes dropped ...\n{AT} second stage\n"
    streams = [[(1, 1), (2, 1), (1, 1), (0, 1)], [(2, 1)]]

    assert log_lines(text, streams) == [
        line("out", 0, "stdout"),
        line("err", 0, "stderr"),
        line("", 0, "stdout"),
        line("... 5 bytes dropped ...", 0, None, at=None),
        line("second stage", 1, "stderr"),
    ]


def test_a_silent_stage_has_no_lines() -> None:
    assert log_lines(f"{AT} b\n", [[], [(1, 1)]]) == [line("b", 1, "stdout")]
    assert log_lines("", [[]]) == []


def test_lines_without_a_report_of_their_grader_have_no_stage() -> None:
    assert log_lines("plain\nThe container crashed", []) == [
        line("plain", None, None, at=None),
        line("The container crashed", None, None, at=None),
    ]


def test_only_a_newline_ends_a_line() -> None:
    assert log_lines(f"{AT} a\rb\x0bc\u2028d\n", [[(1, 1)]]) == [line("a\rb\x0bc\u2028d", 0, "stdout")]


def test_reported_lines_beyond_the_text_are_ignored() -> None:
    assert log_lines(f"{AT} a\n", [[(1, 7)], [(1, 3)]]) == [line("a", 0, "stdout")]

import time
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from broadway.grader.sandbox.output import LONGEST_LINE, OutputLog

AT = 1_795_375_892_613_854_664
STAMP = "2026-11-22T19:31:32.613854664Z"
SHORT = 16  # bytes; the longest line in tests of cuts
MARK = 64  # bytes; the maximum length of the line about dropped bytes


def written(
    *chunks: bytes | tuple[int, bytes], head: int = 1000, tail: int = 1000, longest_line: int = LONGEST_LINE
) -> OutputLog:
    log = OutputLog(head=head, tail=tail, longest_line=longest_line)
    for chunk in chunks:
        stream, data = chunk if isinstance(chunk, tuple) else (1, chunk)
        log.feed(stream, data, AT)
    return log


def texts(log: OutputLog) -> list[str]:
    return [line.removeprefix(STAMP + " ") for line in log.text().splitlines()]


def test_a_line_has_a_timestamp_in_the_engines_format() -> None:
    assert written(b"hello\n").text() == f"{STAMP} hello\n"


def test_no_output_gives_no_text() -> None:
    assert written().text() == ""
    assert written(b"").text() == ""


def test_fractions_of_a_second_have_nine_digits() -> None:
    log = OutputLog(head=100, tail=100)
    log.feed(1, b"x\n", 5)
    assert log.text() == "1970-01-01T00:00:00.000000005Z x\n"


def test_lines_of_both_streams_are_in_the_order_of_their_ends() -> None:
    assert texts(written((1, b"a1\na"), (2, b"b1\n"), (1, b"2\n"))) == ["a1", "b1", "a2"]


def test_a_last_line_without_newline_is_kept() -> None:
    assert texts(written((2, b"err"), (1, b"one\ntwo"))) == ["one", "two", "err"]


def test_empty_lines_are_lines() -> None:
    assert texts(written(b"\n\na\n")) == ["", "", "a"]


def test_a_character_may_arrive_in_parts() -> None:
    data = "grün\n".encode()
    assert texts(written((1, data[:3]), (2, b"-\n"), (1, data[3:]))) == ["-", "grün"]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert texts(written(b"a\xffb\0c\n")) == ["a\ufffdb\ufffdc"]


def test_dropped_bytes_are_counted_between_head_and_tail() -> None:
    lines = [b"%04d\n" % i for i in range(1000)]
    log = written(*lines, head=72, tail=36)
    assert texts(log) == ["0000", "0001", "... 4985 bytes dropped ...", "0999"]
    assert log.total == 5000


def test_a_line_without_end_is_cut_between_characters() -> None:
    log = written("ü".encode() * LONGEST_LINE + b"\n", b"x\n", head=10**6)
    assert [len(line) for line in texts(log)] == [LONGEST_LINE // 2, LONGEST_LINE // 2, 1]
    assert "\ufffd" not in log.text()


def test_an_endless_line_is_bounded() -> None:
    log = written(*[b"x" * 10_000] * 1000, head=64 * 1024, tail=192 * 1024)
    assert 200 * 1024 < len(log.text()) <= 256 * 1024 + MARK


def test_a_flood_takes_little_time() -> None:
    log = OutputLog(head=64 * 1024, tail=192 * 1024)
    before = time.process_time()
    for _ in range(1024):
        log.feed(1, b"y\n" * 4096, AT)
    assert len(log.text()) <= 256 * 1024 + MARK
    assert time.process_time() - before < 2


pieces = st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode), st.just(b"\n")), max_size=20)
limits = st.integers(min_value=0, max_value=400)


class TestAnyOutput:
    @given(pieces=pieces, head=limits, tail=limits)
    def test_no_more_is_kept_than_head_and_tail(self, pieces: list[bytes], head: int, tail: int) -> None:
        log = written(*pieces, head=head, tail=tail, longest_line=SHORT)
        assert len(log.text().encode()) <= head + tail + MARK
        assert log.total == sum(map(len, pieces))

    @given(pieces=pieces)
    def test_all_of_a_short_output_is_kept(self, pieces: list[bytes]) -> None:
        output = b"".join(pieces)
        log = written(*pieces, head=0, tail=100 * len(output), longest_line=SHORT)
        readable = output.decode(errors="replace").replace("\0", "\ufffd").encode()
        kept = "".join(line.removeprefix(STAMP + " ") for line in log.text().split("\n"))
        assert b"dropped" not in log.text().encode()
        if "\ufffd" not in readable.decode():  # a cut may fall into an invalid character
            assert kept.encode() == readable.replace(b"\n", b"")

    @given(data=st.binary(max_size=600), cuts=st.lists(st.integers(0, 600)), head=limits, tail=limits)
    @example(data=b"x" * 17 + b"\n", cuts=[16], head=100, tail=10)
    @example(data=b"\n" * 100, cuts=list(range(100)), head=100, tail=100)
    def test_the_division_into_chunks_does_not_matter(self, data: bytes, cuts: list[int], head: int, tail: int) -> None:
        borders = [0, *sorted(cuts), len(data)]
        chunks = [data[a:b] for a, b in pairwise(borders)]
        one = written(data, head=head, tail=tail, longest_line=SHORT)
        many = written(*chunks, head=head, tail=tail, longest_line=SHORT)
        assert one.text() == many.text()


def test_lines_are_attributed_to_their_streams() -> None:
    text, streams = written((1, b"a\nb\n"), (2, b"c\n"), (1, b"d\n"), (2, b"unfinished")).kept()

    assert streams == [(1, 2), (2, 1), (1, 1), (2, 1)]
    assert text.count("\n") == 5


def test_the_line_about_dropped_bytes_belongs_to_no_stream() -> None:
    text, streams = written((1, b"head\n" * 50), (2, b"x" * 50 + b"\n"), (1, b"tail\n" * 50), head=200, tail=200).kept()

    assert [stream for stream, _ in streams] == [1, 0, 1]
    assert sum(count for _, count in streams) == text.count("\n")


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=60)), max_size=20))
def test_the_attribution_covers_every_line(chunks: list[tuple[int, bytes]]) -> None:
    text, streams = written(*chunks, head=100, tail=100).kept()

    assert sum(count for _, count in streams) == text.count("\n")

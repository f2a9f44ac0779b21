"""Reports: exact points, bounded texts, and a stored form that keeps everything."""

import zlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.originals import (
    MAX_ALL,
    MAX_FILE,
    CorruptFileError,
    OriginalFile,
    Reported,
    unpacked,
)
from broadway.domain.report import (
    LARGEST,
    TRUNCATED,
    Board,
    Format,
    Report,
    ReportedTest,
    Source,
    Status,
    Text,
    Visibility,
    points_of,
    shortened,
    shown,
    total,
)

FULL = Report(
    source=Source.GRADESCOPE,
    score=Decimal("1.5"),
    max=Decimal(30),
    messages=[Text(body="m", format=Format.SIMPLE)],
    visibility=Visibility.AFTER_DUE,
    log_visibility=Visibility.VISIBLE,
    tests=[
        ReportedTest(
            key="g/a", name=Text(body="a"), group=["g"], status=Status.PARTIAL, score=Decimal("0.1"), flaky=True
        )
    ],
    boards=[Board(name="b", value=1.5), Board(name="c", value="x", order="asc")],
    extra='{"seed": 1}',
)


def test_a_stored_report_is_the_same_when_read() -> None:
    assert Report.read(FULL.stored()) == FULL
    assert Report.read('{"source": "tap", "later": 1}') == Report(source=Source.TAP)
    assert Report(source=Source.TAP).stored() == '{"source":"tap"}'


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-LARGEST, max_value=LARGEST))
def test_points_have_at_most_six_places_and_are_the_same_when_read(value: Decimal) -> None:
    points = points_of(value)
    assert abs(points - value) <= Decimal("0.000001") + abs(value) * Decimal("1e-15")
    assert points == points_of(points) == Decimal(shown(points))
    assert "E" not in shown(points)


@pytest.mark.parametrize("text", ["nan", "inf", "1e17", "-1e17", "1e999999999"])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="2\\^53"):
        points_of(Decimal(text))


def test_points_are_added_exactly() -> None:
    assert total([Decimal("0.1")] * 3) == Decimal("0.3")
    assert total([Decimal(LARGEST), Decimal("0.000001"), None]) == Decimal("9007199254740992.000001")
    assert total([None]) is None


def test_a_long_text_loses_its_middle() -> None:
    text = shortened("a" * 60 + "b" * 60, 100)
    assert len(text) == 100
    assert (text[0], text[-1]) == ("a", "b")
    assert TRUNCATED in text
    assert shortened("\0\ud800") == "\N{REPLACEMENT CHARACTER}" * 2


def test_a_file_is_kept_by_its_hash() -> None:
    file = OriginalFile.of("out/r.json", b"content" * 1000)
    assert unpacked(file.compressed()) == b"content" * 1000
    assert file.model_copy(update={"data": ""}) == Reported(problem="x", files=[file]).without_bytes().files[0]


@pytest.mark.parametrize(
    "change",
    [{"sha256": "0" * 64}, {"size": 2}, {"data": "AAAA"}, {"data": "A"}, {"data": OriginalFile.of("", b"y").data}],
)
def test_bytes_of_another_file_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(CorruptFileError):
        OriginalFile.of("r", b"x").model_copy(update=change).compressed()


def test_a_bomb_is_refused() -> None:
    packed = zlib.compress(b"\0" * (64 * MAX_FILE))
    with pytest.raises(CorruptFileError):
        unpacked(packed)


def test_the_files_of_a_report_are_bounded_together() -> None:
    file = OriginalFile.of("r", b"\0" * MAX_FILE)
    with pytest.raises(ValueError, match=f"at most {MAX_ALL} bytes together"):
        Reported(problem="x", files=[file] * 3)
    with pytest.raises(ValueError, match="exactly if there is no report"):
        Reported(files=[file])

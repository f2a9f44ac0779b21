"""Any sheet and any grades: a merge, read by another reader, gives the grades; no other byte changes."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.formulas import NUMERIC, defused, is_formula, restored
from broadway.domain.report import LARGEST, points_of
from broadway.domain.sheets.adjusting import preview
from broadway.domain.sheets.entries import Entry, EntryStatus, SheetError
from broadway.domain.sheets.merging import MergeChoice, merge
from broadway.domain.sheets.numbers import points_in, written
from broadway.domain.sheets.shapes import Key
from broadway.domain.sheets.writing import json_lines, plain_csv

KEYS = [Key("key", "student")]
ENCODINGS = [
    ("utf-8", b"", "utf-8"),
    ("utf-8", b"\xef\xbb\xbf", "utf-8"),
    ("utf-16-le", b"\xff\xfe", "utf-8"),
    ("utf-16-be", b"\xfe\xff", "latin-1"),
    ("utf-16-le", b"", "utf-16"),
    ("cp1252", b"", "windows-1252"),
]
TEXTS = st.text(st.sampled_from("ab =-+@'\",;\t\r\n1.5é€"), max_size=6)
POINTS = st.decimals(-LARGEST, LARGEST, places=4, allow_nan=False).map(points_of)


@dataclass(frozen=True)
class Sheet:
    """The raw cells of a file; the first row has names, ``target`` is the place of the column for grades."""

    rows: Sequence[Sequence[str]]
    target: int
    separator: str
    line_end: str
    is_ended: bool
    encoding: tuple[str, bytes, str]

    def data(self, rows: Sequence[Sequence[str]] | None = None) -> bytes:
        text = self.line_end.join(self.separator.join(row) for row in rows or self.rows)
        codec, mark, _ = self.encoding
        return mark + (text + self.line_end * self.is_ended).encode(codec)


def raw(text: str, *, is_quoted: bool) -> str:
    if is_quoted or any(mark in text for mark in ',;\t"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


@st.composite
def sheets(draw: st.DrawFn) -> Sheet:
    others = draw(st.integers(0, 3))
    names = draw(st.permutations(["key", "mp1", *(f"c{number}, c" for number in range(others))]))
    students = [f"s{number}" for number in range(draw(st.integers(0, 4)))]
    rows = [[raw(name, is_quoted=draw(st.booleans())) for name in names]]
    for student in students:
        cells = [student if name == "key" else draw(TEXTS) for name in names]
        rows.append([raw(cell, is_quoted=draw(st.booleans())) for cell in cells])
    return Sheet(
        rows,
        names.index("mp1"),
        draw(st.sampled_from(",;\t")),
        draw(st.sampled_from(["\n", "\r\n", "\r"])),
        draw(st.booleans()),
        draw(st.sampled_from(ENCODINGS)),
    )


def graded(scores: Sequence[Decimal]) -> list[Entry]:
    return [Entry(student=f"s{i}", status=EntryStatus.GRADED, score=score) for i, score in enumerate(scores)]


def read(data: bytes, sheet: Sheet) -> list[list[str]]:
    codec, mark, _ = sheet.encoding
    text = data.removeprefix(mark).decode(codec)
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=sheet.separator, strict=True))


@given(sheets(), st.lists(POINTS, max_size=5))
def test_a_merge_is_read_as_the_grades_and_changes_no_other_byte(sheet: Sheet, scores: Sequence[Decimal]) -> None:
    choice = MergeChoice(column="mp1", keys=KEYS, encoding=sheet.encoding[2])

    merged = merge(sheet.data(), graded(scores), choice)

    expected, before = [list(row) for row in sheet.rows], read(sheet.data(), sheet)
    for number, score in list(enumerate(scores, start=1))[: len(sheet.rows) - 1]:
        if points_in(before[number][sheet.target]) != score:
            is_quoted = sheet.rows[number][sheet.target].startswith('"')
            expected[number][sheet.target] = raw(written(score), is_quoted=is_quoted)
    assert merged.data == sheet.data(expected)
    cells = [points_in(row[sheet.target]) for row in read(merged.data, sheet)[1:]]
    count = min(len(scores), len(cells))
    assert cells[:count] == list(scores[:count])
    assert [each.student for each in merged.unmatched_students] == [f"s{i}" for i in range(count, len(scores))]
    assert [each.row for each in merged.unmatched_rows] == [i + 2 for i in range(count, len(cells))]
    assert merge(merged.data, graded(scores), choice).data == merged.data


@given(st.binary(max_size=200), st.sampled_from(["utf-8", "utf-16", "windows-1252"]))
def test_any_bytes_are_merged_or_refused(data: bytes, encoding: str) -> None:
    header = "student,mp1\n".encode("utf-16-le" if encoding == "utf-16" else "ascii")
    try:
        merged = merge(header + data, [], MergeChoice(column="mp1", encoding=encoding))
    except SheetError:
        return
    assert merged.data == header + data


@given(st.text(st.sampled_from("'=+-@\uff1d\uff20 \t\r\n\0a1."), max_size=8))
def test_a_harmless_text_is_restored_exactly(text: str) -> None:
    assert restored(defused(text)) == text
    assert not is_formula(defused(text)) or defused(text).startswith("'")
    assert NUMERIC.fullmatch(text) is None or defused(text) == text


@given(POINTS)
def test_points_are_read_as_they_are_written(points: Decimal) -> None:
    for text in (written(points), written(points, comma=True)):
        assert points_in(text) == points
        assert "e" not in text.casefold()


@given(st.dictionaries(st.text("'=+-@ a1,;\"\n", min_size=1).filter(str.strip), st.none() | POINTS), st.booleans())
def test_plain_files_read_again_have_no_adjustment(scores: dict[str, Decimal | None], comma: bool) -> None:
    grades = [
        Entry(student=student, status=EntryStatus.MISSING if score is None else EntryStatus.GRADED, score=score)
        for student, score in scores.items()
    ]

    found = preview(plain_csv(grades, comma=comma).data, grades)

    assert (found.adjustments, found.unknown, found.absent) == ([], [], [])
    assert found.same == len(grades)
    assert json_lines(grades).data.count(b"\n") == len(grades)

"""Text files from people's tools: byte order marks, encodings and line ends."""

import codecs
from pathlib import Path

import pytest

from broadway.domain.text_files import TextFileError, decode, decoded, json_of, read_secret, read_text

TEXT = "student,NETID\nZoë,z1\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
    ],
)
def test_marks_encodings_and_line_ends_make_no_difference(data: bytes) -> None:
    assert decode(data) == TEXT


def test_an_encoding_that_is_named_is_used_unless_a_mark_says_otherwise() -> None:
    assert decode(TEXT.encode("windows-1252"), encoding="windows-1252") == TEXT
    assert decode(codecs.BOM_UTF8 + TEXT.encode(), encoding="windows-1252") == TEXT


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"ada\r\nZo\xeb\r\n", "line 2: the byte 0xEB is not UTF-8; save the file as UTF-8"),
        (b"ada\rbob\rZo\xeb", "line 3: the byte 0xEB"),
        ("ada\n".encode("utf-16-le"), "line 1: a zero byte: this seems to be UTF-16 without a byte order mark"),
        (b"ada\nb\0b\n" + b"x" * 20, "line 2: a zero byte \\(NUL\\): this is no text"),
        (codecs.BOM_UTF16_LE + b"a", "the byte 0x61 is not UTF-16-LE"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_line(data: bytes, said: str) -> None:
    with pytest.raises(TextFileError, match=said):
        decode(data)


@pytest.mark.parametrize("data", [b"hush-hush", b"hush-hush\n", b"hush-hush\r\n", codecs.BOM_UTF8 + b"hush-hush\r\n"])
def test_a_secret_is_the_same_however_its_file_was_written(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "secret").write_bytes(data)

    assert read_secret(tmp_path / "secret") == "hush-hush"


@pytest.mark.parametrize("data", [b"", b"\n", codecs.BOM_UTF8])
def test_an_empty_secret_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "secret").write_bytes(data)

    with pytest.raises(TextFileError, match="the file is empty"):
        read_secret(tmp_path / "secret")


def test_a_file_that_cannot_be_read_is_an_error_of_the_same_kind(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", tmp_path / "nul\0"):
        with pytest.raises(TextFileError):
            read_text(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5000, '{"a": 1,}', "{'a': 1}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(TextFileError, match="expected JSON"):
        json_of(text)


@pytest.mark.parametrize("named", ["utf-8", "windows-1252", "latin-1", "utf-16"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE])
def test_a_file_is_written_back_with_its_mark_and_its_encoding(named: str, mark: bytes) -> None:
    found = decoded(mark, encoding=named)
    data = mark + "Zoë\r\nx\r".encode(found.encoding)

    found = decoded(data, encoding=named)

    assert found.text == "Zoë\r\nx\r"
    assert found.with_text(found.text) == data


@pytest.mark.parametrize(
    ("data", "encoding", "charset"),
    [
        (b"a", "utf-8", "utf-8"),
        (b"a", "windows-1252", "windows-1252"),
        (b"a", "latin-1", "iso-8859-1"),
        ("a".encode("utf-16-le"), "utf-16", "utf-16le"),
        (codecs.BOM_UTF8 + b"a", "latin-1", "utf-8"),
        (codecs.BOM_UTF16_BE + "a".encode("utf-16-be"), "utf-8", "utf-16"),
        (codecs.BOM_UTF32_LE + "a".encode("utf-32-le"), "utf-8", "utf-32"),
    ],
)
def test_the_charset_reads_the_bytes(data: bytes, encoding: str, charset: str) -> None:
    assert decoded(data, encoding=encoding).charset == charset
    assert data.decode(charset).lstrip("\ufeff") == "a"

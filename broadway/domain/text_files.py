"""Reading the text files that people write with their own tools: spreadsheets, editors of any system, shells.

A byte order mark decides the encoding: UTF-8, UTF-16 or UTF-32. A file without one is UTF-8, unless the caller names
another encoding; nothing is guessed, since a wrong guess changes names without a word.
"""

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_FILE = 64 * 1024 * 1024  # bytes
WINDOWS = "windows-1252"
ENCODINGS = ("utf-8", WINDOWS, "latin-1", "utf-16")  # that callers may name

# UTF-32 comes first: its mark begins with that of UTF-16.
_MARKS: Sequence[tuple[bytes, str]] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSETS = {"utf-8": "utf-8", WINDOWS: WINDOWS, "latin-1": "iso-8859-1", "utf-16-le": "utf-16le"}


class TextFileError(ValueError):
    """The file cannot be read, or is no text; the error has the line, the byte and the remedy, not the file's name."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text of a file with its own line ends; its mark and its encoded text are the file's bytes."""

    mark: bytes
    encoding: str
    text: str

    @property
    def charset(self) -> str:
        """The name of the file's encoding on the internet; a mark says the order of bytes."""
        return self.encoding.removesuffix("-le").removesuffix("-be") if self.mark else _CHARSETS[self.encoding]

    def with_text(self, text: str) -> bytes:
        """Return the bytes of a file with another text, and with the same mark and encoding."""
        return self.mark + text.encode(self.encoding)


def read_text(path: Path, *, encoding: str = "utf-8") -> str:
    """Read a text file, with newlines as line ends.

    Raises:
        TextFileError: It cannot be read, or is no text in its encoding.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TextFileError(reason) from None
    return decode(data, encoding=encoding)


def read_secret(path: Path) -> str:
    """Read a file that contains a secret only, without the line end that editors and `echo` add.

    Raises:
        TextFileError: As ``read_text``; or the file is empty. The text contains no part of the secret.
    """
    secret = read_text(path).rstrip("\n")
    if not secret:
        raise TextFileError("the file is empty; expected a secret")
    return secret


def decode(data: bytes, *, encoding: str = "utf-8") -> str:
    """Return the text of a file's bytes, without a byte order mark and with newlines as line ends.

    Raises:
        TextFileError: The bytes are no text in the encoding.
    """
    return decoded(data, encoding=encoding).text.replace("\r\n", "\n").replace("\r", "\n")


def decoded(data: bytes, *, encoding: str = "utf-8") -> Decoded:
    """Return a file's text as it is, with the means to write it back.

    Raises:
        TextFileError: The bytes are no text in the encoding.
    """
    if len(data) > MAX_FILE:
        raise TextFileError(f"has more than {MAX_FILE // 2**20} MiB")
    mark, encoding = next((each for each in _MARKS if data.startswith(each[0])), (b"", encoding))
    body = data[len(mark) :]
    if not mark and encoding == "utf-8" and b"\0" in body:
        raise TextFileError(f"line {_line(body, body.index(0))}: {_of_zeros(body)}")
    encoding = "utf-16-le" if encoding == "utf-16" else encoding  # the codec utf-16 would write a mark
    try:
        return Decoded(mark, encoding, body.decode(encoding))
    except UnicodeDecodeError as error:
        raise TextFileError(_undecodable(body, error)) from None


def json_of(text: str) -> Any:
    """Return the value of JSON text.

    Raises:
        TextFileError: It is not JSON; the text has the line and the column.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TextFileError(f"expected JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise TextFileError("expected JSON that is not nested as deeply") from None
    except ValueError as error:  # a number with too many digits
        raise TextFileError(f"expected JSON: {error}") from None


def _line(data: bytes, place: int) -> int:
    return data[:place].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1


def _of_zeros(data: bytes) -> str:
    zeros = data.count(0)
    if zeros > len(data) // 3:
        return "a zero byte: this seems to be UTF-16 without a byte order mark; save the file as UTF-8"
    return "a zero byte (NUL): this is no text; save the file as UTF-8"


def _undecodable(data: bytes, error: UnicodeDecodeError) -> str:
    byte, line = data[error.start], _line(data, error.start)
    remedy = ", such as `CSV UTF-8` in a spreadsheet" if error.encoding == "utf-8" else ""
    return f"line {line}: the byte 0x{byte:02X} is not {error.encoding.upper()}; save the file as UTF-8{remedy}"

"""What a terminal is shown of texts that students may have written."""

import unicodedata
from typing import TextIO

_LAYOUT = "\n\t"


def show(text: str, stream: TextIO) -> None:
    """Write a text as it is, but for characters that a terminal obeys instead of showing: there they are escapes."""
    stream.write(visible(text) if stream.isatty() else text)


def visible(text: str) -> str:
    """The text without control characters, which may move the cursor, set the clipboard or turn lines around."""
    return "".join(_escape(each) if _is_obeyed(each) else each for each in text)


def _is_obeyed(character: str) -> bool:
    return character not in _LAYOUT and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

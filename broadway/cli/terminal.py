"""Output of texts that students may have written, safe for a terminal."""

import unicodedata
from typing import TextIO

_LAYOUT = "\n\t"


def show(text: str, stream: TextIO) -> None:
    """Write a text; on a terminal, with escapes for characters that the terminal would obey instead of showing."""
    stream.write(visible(text) if stream.isatty() else text)


def visible(text: str) -> str:
    """Return the text with control characters escaped: they may move the cursor, set the clipboard or reverse lines."""
    return "".join(_escape(each) if _is_obeyed(each) else each for each in text)


def _is_obeyed(character: str) -> bool:
    return character not in _LAYOUT and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

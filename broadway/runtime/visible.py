"""Texts of others, made safe to print: characters that a terminal obeys instead of showing become escapes.

Such characters move the cursor, set the clipboard, answer as if typed, or reverse the order of a line. Invisible ones
are escaped too, since two names that look the same must not differ.
"""

import unicodedata

_LAYOUT = "\n\t"
# Control and format characters (zero-width ones and bidi marks among them), line and paragraph separators, halves of
# surrogate pairs, and code points without a character.
_OBEYED = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Cn"})
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")  # letters and symbols without a visible form


def visible(text: str) -> str:
    """Return a text of any number of lines with its invisible characters escaped, except newlines and tabs."""
    return _escaped(text, allowed=_LAYOUT)


def visible_line(text: str) -> str:
    """Return a text as one line: newlines and tabs are escaped, too, since they would add rows or columns."""
    return _escaped(text, allowed="")


def _escaped(text: str, *, allowed: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each in allowed or not _is_hidden(each) else _escape(each) for each in text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _OBEYED or character in _BLANK


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

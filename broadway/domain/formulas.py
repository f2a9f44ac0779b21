"""Texts of students and rosters that a spreadsheet would run as formulas, made harmless. Pure.

Numbers stay numbers. An apostrophe goes before any other text that begins like a formula, also after blanks and in
full-width characters; and before one that begins with apostrophes and then like a formula, so that ``restored`` is
exact.
"""

import re

NUMERIC = re.compile(r"[+-]?\d+(?:\.\d+)?")
_FORMULA = re.compile(
    "'*(?:[\t\r\0]|\\s*[=+\\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}])"
)
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


def is_formula(text: str) -> bool:
    """Return whether a spreadsheet may take a text for a formula."""
    return bool(_FORMULA.match(text)) and not NUMERIC.fullmatch(text)


def defused(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if is_formula(text) else text


def on_a_line(text: str) -> str:
    """Return a text for people that no spreadsheet takes for a formula, with blanks for its control characters."""
    return defused(_CONTROL.sub(" ", text))


def restored(text: str) -> str:
    """Return the text of which ``defused`` made this one."""
    return text[1:] if text.startswith("'") and is_formula(text[1:]) else text


def identifier_problem(text: str, *, name: str) -> str:
    """Return the reason for which no file can have an identifier, or an empty text.

    An apostrophe before it would keep a learning management system from finding the student.
    """
    if is_formula(text) or _CONTROL.search(text):
        return f"{name} {text[:100]!r} begins like a formula or has control characters; correct it"
    return ""

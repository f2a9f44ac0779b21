"""Secrets that are sent in a header: those that no header can carry are refused when they are read.

The texts never contain a part of the secret.
"""

import unicodedata

MAX_SECRET = 4096  # characters; servers limit the head of a request
_LAST = "\x7e"  # clients and servers agree on the encoding of ASCII only
_NAMES = {"\r": "a carriage return (CR)", "\n": "a newline", "\t": "a tab", " ": "a blank", "\0": "NUL"}
_CRLF = "; has the file Windows line ends (CRLF)? Save it with LF"


def header_problem(secret: str) -> str | None:
    """Return why no header can carry a secret, and the remedy; None if one can."""
    if not secret:
        return "is empty"
    if len(secret) > MAX_SECRET:
        return f"has {len(secret)} characters; at most {MAX_SECRET} are possible"
    for place, character in enumerate(secret):
        if found := _unusable(character):
            return f"has {found} {_where(place, secret)}, which no header can carry{_remedy(character)}"
    return None


def _unusable(character: str) -> str | None:
    """Return the description of a character that ends or splits a header's value; None for any other character."""
    if character in _NAMES:
        return _NAMES[character]
    category = unicodedata.category(character)
    if category.startswith("Z"):
        return "a blank that is not ASCII"
    if category == "Cc":
        return "a control character"
    return "a character beyond ASCII" if character > _LAST else None


def _where(place: int, secret: str) -> str:
    if place == 0:
        return "at its beginning"
    return "at its end" if place == len(secret) - 1 or not secret[place:].strip() else f"at position {place + 1}"


def _remedy(character: str) -> str:
    if character == "\r":
        return _CRLF
    return "; remove it" if character in _NAMES else "; use letters, digits and punctuation of ASCII"


def text_problem(address: str) -> str | None:
    """Return why a text is no address, for blanks and control characters, which libraries drop or report in clear."""
    for place, character in enumerate(address):
        if character.isspace() or unicodedata.category(character) in ("Cc", "Cf"):
            found = _NAMES.get(character, "a blank or control character")
            return f"has {found} {_where(place, address)}, which no address can have{_remedy(character)}"
    return None

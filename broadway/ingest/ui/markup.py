"""Colored text of programs as HTML. This is the one place that makes markup of text; it escapes all of it.

Colors and weights (SGR) become classes. All other control sequences are removed, and with them control characters and
the characters that change the direction of text: a program cannot move, hide or disguise a line.
"""

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

MAX_LINE = 4000  # characters of a line that are shown
MAX_CODES = 32  # of one sequence

# Directions, separators, characters without a form, and halves of characters.
_DISGUISES = (
    "[\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
# CSI; OSC, DCS, SOS, PM and APC up to their ends; other escapes; C0 but tab, DEL and C1; directions and separators.
_CONTROL = re.compile(
    "(?:\x1b\\[|\x9b)(?P<codes>[0-9;:]{0,200})m"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|\x1b[]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)?"
    "|\x1b[ -/]*[0-~]?"
    "|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
    f"|{_DISGUISES}"
)
_HIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f]|{_DISGUISES}")  # all but tabs and ends of lines
_BOLD, _FAINT, _ITALIC, _UNDERLINE, _REVERSE = 1, 2, 3, 4, 7
_ON = {_BOLD: "b", _FAINT: "f", _ITALIC: "i", _UNDERLINE: "u", _REVERSE: "r"}
_OFF = {22: ("b", "f"), 23: ("i",), 24: ("u",), 27: ("r",)}
_EXTENDED, _INDEXED, _RGB = (38, 48), 5, 2
_COLORS = 16


def clean(value: object) -> object:
    """Return a value of a template: a text without control characters and disguises, anything else as it is.

    Templates apply this to each of their values, so that no page can forget it.
    """
    if not isinstance(value, str) or hasattr(value, "__html__") or (value.isascii() and value.isprintable()):
        return value
    return _HIDDEN.sub("", value)


def verbatim(text: str) -> Markup:
    """Return a text for the value of a field that is not shown and comes back as it was: escaped, and nothing else."""
    return Markup("{}").format(text)


def plain(text: str, most: int = MAX_LINE) -> str:
    """Return a text of one line without control characters, of at most ``most`` characters."""
    cut = _CONTROL.sub("", text[: 4 * most])
    return cut if len(cut) <= most and len(text) <= 4 * most else f"{cut[:most]}…"


def colored(line: str, most: int = MAX_LINE) -> Markup:
    """Return a line of a program's output as HTML. Of a long line the beginning is shown, and its length."""
    shown = _last_written(line[: 4 * most])[:most]
    parts: list[Markup] = []
    style: dict[str, str] = {}
    for text, codes in _pieces(shown):
        if text:
            names = " ".join(style.values())
            parts.append(Markup('<span class="{}">{}</span>').format(names, text) if names else escape(text))
        if codes is not None:
            _apply(style, codes)
    if len(line) > most:
        rest = Markup('<span class="cut"> … the line has {} characters; the download has all of them</span>')
        parts.append(rest.format(f"{len(line):,}"))
    return Markup("").join(parts)


def _last_written(line: str) -> str:
    """Return the part of a line that a terminal would show last, after the carriage returns of progress bars."""
    return line.rstrip("\r").rpartition("\r")[2]


def _pieces(line: str) -> Iterator[tuple[str, list[int] | None]]:
    """Yield texts, each with the codes of the SGR sequence behind it, or None."""
    start = 0
    for found in _CONTROL.finditer(line):
        codes = found["codes"]
        yield line[start : found.start()], None if codes is None else _codes(codes)
        start = found.end()
    yield line[start:], None


def _codes(text: str) -> list[int]:
    return [int(part or 0) for part in re.split("[;:]", text)[:MAX_CODES] if len(part) <= 3]  # noqa: PLR2004 - digits


def _apply(style: dict[str, str], codes: list[int]) -> None:
    """Change a style by the codes of a sequence. Colors beyond the first 16 are left out."""
    waiting = iter(codes)
    for code in waiting:
        if code == 0:
            style.clear()
        elif code in _ON:
            style[_ON[code]] = f"t-{_ON[code]}"
        elif code in _OFF:
            for name in _OFF[code]:
                style.pop(name, None)
        elif code in _EXTENDED:
            _extended(style, code, waiting)
        else:
            _color(style, code)


def _extended(style: dict[str, str], code: int, rest: Iterator[int]) -> None:
    kind = next(rest, 0)
    arguments = [next(rest, 0) for _ in range({_INDEXED: 1, _RGB: 3}.get(kind, 0))]
    key = "fg" if code == _EXTENDED[0] else "bg"
    style.pop(key, None)
    if kind == _INDEXED and arguments[0] < _COLORS:
        style[key] = f"t-{key}{arguments[0]}"


def _color(style: dict[str, str], code: int) -> None:
    for key, base, bright in (("fg", 30, 90), ("bg", 40, 100)):
        if code == base + 9:
            style.pop(key, None)
        elif base <= code < base + 8:
            style[key] = f"t-{key}{code - base}"
        elif bright <= code < bright + 8:
            style[key] = f"t-{key}{code - bright + 8}"

"""Texts of others cannot control the terminal that shows them, nor look like other texts."""

import pytest

from broadway.runtime.visible import visible, visible_line

TRICKS = {
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "title": "\x1b]0;title\x1b\\",
    "clear": "\x1b[2J",
    "C1 sequence": "\x9b1A",
    "C1 string": "\x90q\x9c",
    "backspaces": "a\x08b",
    "return": "failed\rpassed",
    "delete": "a\x7f",
    "bidi override": "\u202etxt.exe",
    "bidi isolate": "\u2066a\u2069",
    "bidi mark": "a\u200f\u061c",
    "zero width": "a\u200bb\u200d\ufeff",
    "tags": "a\U000e0041",
    "separators": "a\u2028b\u2029c\x85d\x0cd\x0be",
    "filler": "a\u3164b\u2800",
    "half of a pair": "a\ud800",
    "no character": "a\uffff",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_reaches_the_terminal(trick: str) -> None:
    for shown in (visible(TRICKS[trick]), visible_line(TRICKS[trick])):
        assert shown.isprintable()
        assert "\\" in shown, "it is shown, not dropped"


@pytest.mark.parametrize("text", ["plain", "Zoë Müller", "日本語", "שלום", "e\u0301", "\U0001f600 ok", "C:\\x"])
def test_honest_texts_stay_as_they_are(text: str) -> None:
    assert (visible(text), visible_line(text)) == (text, text)


def test_only_a_whole_text_keeps_its_lines_and_columns() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible_line("a\tb\nc") == r"a\tb\nc"

"""Output of programs as HTML: text stays text, colors become classes, all other sequences vanish."""

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadway.ingest.ui.markup import MAX_LINE, colored, plain
from broadway.ingest.ui.templating import environment

_TAGS = re.compile(r'<span class="(?:t-(?:b|f|i|u|r|[fb]g\d{1,2})(?: t-(?:b|f|i|u|r|[fb]g\d{1,2}))*|cut)">|</span>')


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("\x1b[31mred\x1b[0m plain", '<span class="t-fg1">red</span> plain'),
        ("\x1b[1;92;41mx\x1b[22my", '<span class="t-b t-fg10 t-bg1">x</span><span class="t-fg10 t-bg1">y</span>'),
        ("\x1b[38;5;3mx\x1b[39my", '<span class="t-fg3">x</span>y'),
        ("\x1b[38;2;1;2;3mx", "x"),
        ("\x1b[38;5;200mx", "x"),
        ("\x1b[mx", "x"),
        ("\x1b[31", ""),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1b[2J\x1b[?25l\x1b[10;10Hx\x1bc", "x"),
        ("\x9b31mx\x9b0m", '<span class="t-fg1">x</span>'),
        ("10%\r50%\r100%\r", "100%"),
        ("a\x00b\x08\x07\x7fc", "abc"),
        ("\u202egnp\u202c\u2066x\u2069\u200f", "gnpx"),
        ("\x1b[31m<b>\x1b[0m", '<span class="t-fg1">&lt;b&gt;</span>'),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_a_line_becomes_html(text: str, html: str) -> None:
    assert str(colored(text)) == html


@given(st.text(st.sampled_from("\x1b[]0123456789;:mJ?<>&\"'\\\x07\x9b\x9d\x00\r\u202eab "), max_size=200))
def test_no_text_becomes_more_than_spans_of_known_classes(text: str) -> None:
    html = str(colored(text))
    rest = _TAGS.sub("", html)
    assert "<" not in rest
    assert ">" not in rest
    assert html.count("<span") == html.count("</span>")
    assert not set(unescape(rest)) & {"\x1b", "\x07", "\x9b", "\x9d", "\x00", "\r", "\u202e"}
    assert not set(plain(text)) & {"\x1b", "\x07", "\x00", "\u202e"}


def test_a_line_of_a_million_characters_is_cut_with_its_length() -> None:
    html = str(colored("x" * 1_000_000))
    assert html.startswith("x" * MAX_LINE + "<span")
    assert "1,000,000 characters" in html
    assert len(html) < MAX_LINE + 200
    assert len(plain("y" * 1_000_000, 100)) == 101


def test_a_line_of_sequences_alone_is_bounded() -> None:
    assert len(colored("\x1b[31mx" * 200_000)) < 20 * MAX_LINE


@pytest.mark.parametrize(
    "hidden", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u200f", "\ufeff", "\U000e0041"]
)
def test_every_value_of_a_template_is_cleaned(hidden: str) -> None:
    text = f"a{hidden}<b>\nc"
    shown = (
        environment()
        .from_string("{{ text }}|{{ text ~ '' }}|{{ [text] | join }}|{{ text | verbatim }}")
        .render(text=text)
    )
    assert shown == "a&lt;b&gt;\nc|" * 3 + f"a{hidden}&lt;b&gt;\nc"

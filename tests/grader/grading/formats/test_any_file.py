"""Whatever a file has in it, a reader returns a report that can be stored, or refuses the file with a sentence."""

import json
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadway.domain.report import Report
from broadway.grader.grading.formats.malformed import File
from broadway.grader.grading.formats.read import InvalidReportError, read

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["passed", "failed", "pass", "error", "hidden", "html", "asc", "5ms", "data:image/png;base64,AA=="]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = {
    "gradescope": "score max_score tests output name status number tags visibility leaderboard value order "
    "execution_time extra_data output_format name_format",
    "prairielearn": "score max_points points gradable format_errors message output images tests name url label",
    "ctrf": "reportFormat results tests name status duration suite tags stdout flaky retries extra summary start stop",
    "classroom": "version status max_score tests name score line_no execution_time message",
    "autolab": "scores scoreboard A",
}
ATTRIBUTES = ("name", "classname", "time", "status", "result", "file", "line", "message", "value")
ELEMENTS = ("testsuite", "testcase", "failure", "skipped", "properties", "property", "system-out", "flakyFailure")


def documents(keys: str) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(keys.split())
    part = st.dictionaries(names, VALUES, max_size=6)
    return st.dictionaries(names, VALUES | part | st.lists(part | VALUES, max_size=4), max_size=8)


@st.composite
def elements(draw: st.DrawFn, depth: int = 0) -> str:
    name = draw(st.sampled_from(ELEMENTS)) if depth else "testsuites"
    attributes = draw(st.dictionaries(st.sampled_from(ATTRIBUTES), st.text(max_size=5) | st.just("points"), max_size=3))
    inside = "".join(draw(st.lists(elements(depth + 1), max_size=3))) if depth < 4 else ""
    shown = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    own = draw(st.text("12-.x \x1b", max_size=4))
    return f"<{name}{shown}>{inside}{own}</{name}>"


def is_read_or_refused(name: str, data: bytes) -> None:
    try:
        report = read(name, [File("out/r", data)])
    except InvalidReportError as error:
        str(error).encode()
        return
    report.stored().encode()
    assert Report.read(report.stored()) == report


@pytest.mark.parametrize("name", KEYS)
def test_any_document(name: str) -> None:
    @given(documents(KEYS[name]))
    @settings(max_examples=60)
    def check(document: dict[str, Any]) -> None:
        is_read_or_refused(name, json.dumps(document).encode())
        is_read_or_refused(name, json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"))

    check()


@given(elements())
@settings(max_examples=60)
def test_any_elements(text: str) -> None:
    is_read_or_refused("junit", text.encode("utf-8", "surrogatepass"))


@given(
    st.lists(
        st.from_regex(
            r"(not )?ok( \d{1,3})?( - \w*)?( # (SKIP|TODO))?|1\.\.\d{1,2}|Bail out!.*| {2}\S*|.*", fullmatch=True
        )
    )
)
def test_any_lines(lines: list[str]) -> None:
    is_read_or_refused("tap", "\n".join(lines).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", [*KEYS, "junit", "tap"])
def test_any_bytes(name: str) -> None:
    @given(st.binary(max_size=60))
    @settings(max_examples=30)
    def check(data: bytes) -> None:
        is_read_or_refused(name, data)

    check()

"""Output of hidden stages in the logs of the original's graders."""

from typing import Any

import pytest

from broadway.ingest.gateway.hidden import without_hidden


def at(second: int, fraction: str = "000000001") -> str:
    return f"2026-03-01T12:00:{second:02}.{fraction}Z"


def ran(*seconds: int) -> list[dict[str, Any]]:
    """Return the results of stages that started at these seconds."""
    return [{"success": True, "data": {"StartedAt": at(second, "5"), "ExitCode": 0}} for second in seconds]


HIDDEN, SHOWN = {"image": "a", "logs": False}, {"image": "a"}
OUTPUT = (
    f"{at(1, '600000000')} first\r\n{at(2)} second, long\r\nand continued\r\n"
    f"\n{at(3, '600000000')} answers\r\nmore answers\r\n\n{at(5, '700000000')} last\r\n"
)


def test_only_the_lines_of_a_hidden_stage_are_missing() -> None:
    kept = without_hidden(OUTPUT, [SHOWN, HIDDEN, SHOWN], ran(1, 3, 5))

    assert kept == (
        f"{at(1, '600000000')} first\r\n{at(2)} second, long\r\nand continued\r\n\n{at(5, '700000000')} last\r\n"
    )


@pytest.mark.parametrize(
    ("stages", "kept"),
    [([SHOWN] * 3, OUTPUT), ([HIDDEN] * 3, ""), ([SHOWN] * 3 + [HIDDEN], OUTPUT)],
    ids=["none hidden", "all hidden", "the hidden one did not run"],
)
def test_stages_that_are_all_alike(stages: list[dict[str, Any]], kept: str) -> None:
    assert without_hidden(OUTPUT, stages, ran(1, 3, 5)) == kept


@pytest.mark.parametrize(
    "results",
    [[{"success": False}] * 3, [*ran(1, 3), {"data": {"StartedAt": "0001-01-01T00:00:00Z"}}], ran(3, 1, 5)],
    ids=["without times", "one without a start", "out of order"],
)
def test_nothing_is_shown_if_the_stages_cannot_be_told_apart(results: list[dict[str, Any]]) -> None:
    assert without_hidden(OUTPUT, [SHOWN, HIDDEN, SHOWN], results) == ""


def test_lines_before_any_time_are_hidden() -> None:
    assert without_hidden("secret\n" + OUTPUT, [SHOWN, HIDDEN, SHOWN], ran(1, 3, 5)).startswith(at(1, "600000000"))


def test_a_line_that_claims_a_time_of_another_stage_keeps_its_own() -> None:
    """A program cannot write the beginning of a line: the engine's time comes first."""
    text = f"{at(3, '600000000')} {at(1, '600000000')} answers\n"
    assert without_hidden(text, [SHOWN, HIDDEN], ran(1, 3)) == ""

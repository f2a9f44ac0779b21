"""The doctor's findings from measured numbers."""

from datetime import timedelta

import pytest

from broadway.cli.checks import clock


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [(-1, "ok", "within 2 s"), (4, "warning", "4.0 s ahead of"), (-11, "problem", "11.0 s behind")],
)
def test_a_finding_on_a_clock_has_its_difference(seconds: float, level: str, said: str) -> None:
    finding = clock("store", timedelta(seconds=seconds))
    assert finding.level == level
    assert said in finding.text

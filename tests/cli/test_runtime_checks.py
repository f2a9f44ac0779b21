"""The doctor's findings on a grader's runtime, and its word on the choice of `broadway up`."""

from pathlib import Path
from typing import Any

import pytest

from broadway.cli.runtime_checks import choice_of_up, of_engine, runtime_of
from broadway.settings.grader import GraderSettings
from broadway.settings.images import ImageSettings

CAN = "runtime: oci (starts stages without an engine)"
NO_CRUN = "there is no no-such-program: the package crun has it"


@pytest.mark.parametrize(
    ("given", "said", "level", "needs_engine"),
    [
        ({"runtime": "oci"}, CAN, "ok", True),
        ({"runtime": "auto"}, CAN, "ok", True),
        ({"runtime": "oci", "images": ImageSettings(source="registry")}, CAN, "ok", False),
        ({"runtime": "oci", "oci_layout": Path("layout")}, CAN, "ok", False),
        ({"runtime": "auto", "oci_program": "no-such-program"}, f"runtime: docker, because {NO_CRUN}", "ok", True),
        ({"runtime": "oci", "oci_program": "no-such-program"}, f"--runtime oci: {NO_CRUN}", "problem", False),
        ({"runtime": "runsc"}, None, None, True),
        ({"runtime": None}, None, None, True),
    ],
)
async def test_a_graders_runtime_is_decided_as_at_its_start(
    tmp_path: Path, given: dict[str, Any], said: str | None, level: str | None, *, needs_engine: bool
) -> None:
    findings, needs = await runtime_of(GraderSettings(token="t", grader_id="g", work_dir=tmp_path / "work", **given))
    assert needs is needs_engine
    assert [(each.text, each.level) for each in findings] == ([(said, level)] if said else [])


async def test_it_says_what_up_would_choose_here() -> None:
    finding = await choice_of_up()
    assert (finding.level, finding.text) == ("ok", f"`broadway up` has here the {CAN}")


def test_only_runtimes_of_an_engine_are_asked_of_it() -> None:
    assert [of_engine(each) for each in (None, "oci", "auto", "docker", "runsc")] == [None] * 4 + ["runsc"]

"""The choice of a runtime from facts about a host, and the probe of this host."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broadway.grader.oci.choice import MIN_DISK, Facts, choose, shortcomings
from broadway.grader.oci.probe import probe
from broadway.grader.ports import ContainerError
from broadway.grader.runtimes import resolved
from broadway.settings.grader import GraderSettings

GOOD = Facts("/usr/bin/crun", "crun version 1.8.1", is_crun=True, init="/usr/bin/tini-static", free_disk=MIN_DISK)


def test_a_host_that_can_gets_oci() -> None:
    chosen = choose("auto", GOOD)
    assert str(chosen) == "oci (starts stages without an engine)"
    assert (chosen.setting, chosen.needs) == ("oci", ())


@pytest.mark.parametrize(
    ("lack", "sentence"),
    [
        ({"version": None}, "there is no /usr/bin/crun: the package crun has it"),
        ({"is_crun": False, "version": "runc 1"}, "is not crun, built with seccomp: it says runc 1"),
        ({"is_crun": False, "version": ""}, "it says nothing"),
        ({"is_root": False}, "the grader must be root, with the right to mount"),
        ({"may_mount": False}, "the grader must be root, with the right to mount"),
        ({"init": None}, "there is no docker-init: the package tini has it"),
        ({"groups": "there is no control group hierarchy at /g"}, "there is no control group hierarchy at /g"),
        ({"overlay": "no overlay can be mounted in /x"}, "no overlay can be mounted in /x"),
        ({"seccomp": "there is no libseccomp"}, "there is no libseccomp"),
        ({"free_disk": MIN_DISK - 1}, "only 1.0 GiB of disk are free for unpacked images, and 1 GiB is needed"),
        ({"trial": "it ended"}, "a container of the grader's own did not run: it ended"),
    ],
)
def test_each_thing_that_is_missing_has_a_sentence(lack: dict[str, Any], sentence: str) -> None:
    facts = replace(GOOD, **lack)
    (found,) = shortcomings(facts)
    assert sentence in found
    chosen = choose("auto", facts)
    assert str(chosen) == f"docker, because {found}"
    assert chosen.setting is None
    with pytest.raises(ContainerError, match="--runtime oci: ") as raised:
        choose("oci", facts)
    assert found in str(raised.value)


def test_all_reasons_are_given_at_once() -> None:
    chosen = choose("auto", replace(GOOD, version=None, init=None))
    assert str(chosen).count("the package") == len(chosen.needs) == 2


@pytest.mark.parametrize(("wish", "setting"), [("docker", None), ("runsc", "runsc")])
def test_a_named_runtime_of_an_engine_is_taken_as_it_is(wish: str, setting: str | None) -> None:
    for facts in (GOOD, Facts()):
        chosen = choose(wish, facts)
        assert chosen.setting == setting
        assert "as --runtime says" in str(chosen)


async def test_this_host_can_and_the_probe_leaves_nothing(tmp_path: Path) -> None:
    mounts = set(Path("/proc/self/mounts").read_text().splitlines())
    facts = await probe("crun", tmp_path / "not" / "made")
    assert str(choose("auto", facts)) == "oci (starts stages without an engine)"
    assert facts.free_disk
    assert not list(tmp_path.iterdir())
    left = set(Path("/proc/self/mounts").read_text().splitlines()) - mounts
    assert not [line for line in left if str(tmp_path) in line]


async def test_a_runtime_that_is_not_crun_is_not_tried(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho runc version 1.1.5\n")
    other.chmod(0o755)
    assert "it says runc version 1.1.5" in str(choose("auto", await probe(str(other), tmp_path)))


@pytest.mark.parametrize(
    ("runtime", "program", "found"),
    [
        ("auto", "crun", "oci"),
        ("auto", "no-such-program", None),
        ("docker", "crun", None),
        ("runsc", "crun", "runsc"),
        (None, "crun", None),
        ("oci", "no-such-program", "oci"),  # refused when it is connected, with all reasons
    ],
)
async def test_a_graders_setting_is_resolved_at_its_start(
    tmp_path: Path, runtime: str | None, program: str, found: str | None
) -> None:
    given = GraderSettings(token="t", grader_id="g", work_dir=tmp_path, runtime=runtime, oci_program=program)
    settings = await resolved(given)
    assert settings.runtime == found
    assert settings.reported_runtime == (found or "default")

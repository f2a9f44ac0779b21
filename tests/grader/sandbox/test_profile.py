"""The limits of containers that an operator sets."""

from pathlib import Path
from typing import Any

import pytest

from broadway.domain.assignment import Stage
from broadway.grader.ports import Labels, Limits, Mount
from broadway.grader.sandbox.profile import GVISOR_PIDS, container_options
from broadway.settings.grader import GraderSettings
from broadway.settings.programs import IngestSettings

LABELS = Labels("g", "life", "job", "execution", 0)


def open_files(limits: Limits, **stage: Any) -> tuple[int, int]:
    """Return the soft and the hard limit on open files of a stage."""
    mounts = [Mount("/job", Path("/work"), read_only=False)]
    options = container_options(Stage(image="x", **stage), LABELS, limits=limits, mounts=mounts, hosts=None)
    (limit,) = (each for each in options["host_config"]["ulimits"] if each["name"] == "nofile")
    return limit["soft"], limit["hard"]


@pytest.mark.parametrize(
    ("limit", "standard", "strict"),
    [(1024, (1024, 16384), (1024, 1024)), (20_000, (20_000, 20_000), (1024, 1024)), (256, (256, 16384), (256, 256))],
)
def test_the_operator_sets_the_limit_on_open_files(
    limit: int, standard: tuple[int, int], strict: tuple[int, int]
) -> None:
    assert open_files(Limits(open_files=limit)) == standard
    assert open_files(Limits(open_files=limit), untrusted=True) == strict


def test_the_default_limit_on_open_files() -> None:
    assert open_files(Limits()) == (1024, 16384)


def of_guide() -> dict[str, str]:
    """Return the rows of the table *What your stages will notice*: Broadway's column by the first one."""
    guide = Path("docs/operators.md").read_text().partition("### What your stages will notice")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in guide.splitlines() if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[2] for row in rows[2:]}


def test_the_switch_over_guide_agrees_with_the_profile() -> None:
    stage, limits, mounts = Stage(image="x"), Limits(), [Mount("/job", Path("/work"), read_only=False)]
    host = container_options(stage, LABELS, limits=limits, mounts=mounts, hosts=None)["host_config"]
    allowed = {each["name"]: each for each in host["ulimits"]}
    rows, defaults = of_guide(), GraderSettings.model_fields

    assert rows["processes"].startswith(f"{host['pids_limit']} in a container; {GVISOR_PIDS} with")
    assert rows["capabilities of root"] == ", ".join(host["cap_add"])
    assert (host["cap_drop"], host["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    files = allowed["nofile"]
    assert rows["open files of a process"] == f"{files['soft']}, which the process may raise to {files['hard']}"
    assert (allowed["fsize"]["hard"], rows["one file"]) == (2**30, "1 GiB")
    assert (allowed["core"]["hard"], rows["core dumps"]) == (0, "none")
    assert (limits.disk, defaults["disk_limit"].default) == (4 * 2**30, "4g")
    assert rows["the container's disk"].startswith("4 GiB")
    size = f"a file system in memory of 1 GiB and {defaults['job_inodes'].default} files"
    assert (rows["`/job`"], defaults["job_size"].default) == (size, "1g")
    assert (limits.kept_head, limits.kept_tail, limits.output) == (64 * 1024, 192 * 1024, 8 * 1024 * 1024)
    assert "first 64 KiB and the last 192 KiB" in rows["output"]
    assert rows["much output"].startswith("after 8 MiB")
    assert IngestSettings.model_fields["max_job_seconds"].default == 3 * 3600

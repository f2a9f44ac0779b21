"""Control groups of containers: what an engine has forgotten in one does not outlive it."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

import pytest
from harness import until

from broadway.grader.sandbox.cgroups import OURS, Meter, _places


@pytest.fixture
def meter() -> Iterator[Meter]:
    """That of a container which an engine has made, in every hierarchy."""
    name = f"broadway-{token_hex(12)}-0"
    groups = [place / OURS / name for place in _places()]
    for group in groups:
        (group / "container").mkdir(parents=True)
    yield Meter(name)
    assert [group for group in groups if group.exists()] == []


@pytest.fixture
def stray(meter: Meter) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that runs in the container's group."""
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(["sleep", "1000"]))
        stack.callback(process.kill)
        for group in _groups(meter):
            _fill_required(group)
            (group / "cgroup.procs").write_text(str(process.pid))
        yield process


def _groups(meter: Meter) -> list[Path]:
    return [place / OURS / meter.name / "container" for place in _places()]


def _fill_required(group: Path) -> None:
    """A group of version 1 takes no process before it has CPUs and memory of its own."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        for directory in (group.parent.parent, group.parent, group):
            if (file := directory / name).exists() and not file.read_text().strip():
                file.write_text((directory.parent / name).read_text())


async def test_what_still_runs_in_a_group_that_is_given_back_is_killed(
    meter: Meter, stray: "subprocess.Popen[bytes]"
) -> None:
    meter.remove()

    assert stray.wait(timeout=10) == -9
    await until(lambda: is_given_back(meter))  # who is killed leaves the group a moment later


def is_given_back(meter: Meter) -> bool:
    meter.remove()
    return not any(group.exists() for group in _groups(meter))


def test_an_empty_group_is_given_back(meter: Meter) -> None:
    meter.remove()

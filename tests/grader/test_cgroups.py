"""Control groups of containers: a process that an engine has forgotten in a group ends with the group."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

import pytest
from harness import PATIENCE, until

from broadway.grader.sandbox.cgroups import OURS, Meter, _places


@pytest.fixture
def meter() -> Iterator[Meter]:
    """The meter of a container that an engine has made, in every hierarchy."""
    name = f"broadway-{token_hex(12)}-0"
    groups = [place / OURS / name for place in _places()]
    for group in groups:
        (group / "container").mkdir(parents=True)
    yield Meter(name)
    assert [group for group in groups if group.exists()] == []


@pytest.fixture
def stray(meter: Meter) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs in the container's group."""
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
    """Give a group of version 1 CPUs and memory, without which it accepts no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        for directory in (group.parent.parent, group.parent, group):
            if (file := directory / name).exists() and not file.read_text().strip():
                file.write_text((directory.parent / name).read_text())


async def test_removing_a_group_kills_the_processes_in_it(meter: Meter, stray: "subprocess.Popen[bytes]") -> None:
    meter.remove()

    assert stray.wait(timeout=PATIENCE) == -9
    await until(lambda: is_removed(meter))  # a killed process leaves the group a moment later


def is_removed(meter: Meter) -> bool:
    meter.remove()
    return not any(group.exists() for group in _groups(meter))


def test_an_empty_group_is_removed(meter: Meter) -> None:
    meter.remove()

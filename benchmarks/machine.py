"""What the machine tells: processor time and memory, and what it is itself."""

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from broadway.grader.sandbox import kernel
from broadway.local.engine import HYBRID


def with_own_mounts() -> None:
    """Leave the machine's mounts as they are, whatever programs that are killed leave behind: each costs containers.

    Version 2 of control groups goes beside version 1: crun refuses to see both.
    """
    if os.geteuid() == 0:
        kernel.own_mounts()
        if HYBRID.is_mount():
            kernel.unmount(str(HYBRID))


@dataclass(slots=True)
class Spent:
    """Seconds: by the clock, and of processors over the whole machine."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def spending() -> Iterator[Spent]:
    """Measure a block. The processors' time is everybody's: what an engine does, no process of ours is charged for."""
    spent, begun, busy = Spent(), time.perf_counter(), _busy()
    yield spent
    spent.wall, spent.cpu = time.perf_counter() - begun, _busy() - busy


def _busy() -> float:
    times = psutil.cpu_times()
    idle: float = times.idle + times.iowait
    return sum(times[:8]) - idle  # what follows are guests' times, which are among the users' already


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of those of its children that live."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def resident(pid: int) -> float:
    """Memory of a process and its children, in MiB."""
    root = psutil.Process(pid)
    return float(sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 2**20)


def describe() -> Mapping[str, str]:
    """The machine, for readers of the numbers."""
    return {
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }

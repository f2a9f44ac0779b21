"""Measurements of the machine: processor time, memory, and a description."""

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
    """Give this process its own mounts. Killed programs leave mounts behind, and each one slows down containers.

    If cgroups v2 is mounted beside v1, unmount it here: crun refuses hosts with both.
    """
    if os.geteuid() == 0:
        kernel.own_mounts()
        if HYBRID.is_mount():
            kernel.unmount(str(HYBRID))


@dataclass(slots=True)
class Spent:
    """Seconds of a block: on the clock, and of all processors of the machine."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def spending() -> Iterator[Spent]:
    """Measure a block. The processor time is the whole machine's, since an engine's work is outside our processes."""
    spent, begun, busy = Spent(), time.perf_counter(), _busy()
    yield spent
    spent.wall, spent.cpu = time.perf_counter() - begun, _busy() - busy


def _busy() -> float:
    times = psutil.cpu_times()
    idle: float = times.idle + times.iowait
    return sum(times[:8]) - idle  # the rest are times of guests, which the users' times already include


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of its living children."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def resident(pid: int) -> float:
    """Return the memory of a process and its children, in MiB."""
    root = psutil.Process(pid)
    return float(sum(process.memory_info().rss for process in (root, *root.children(recursive=True))) / 2**20)


def describe() -> Mapping[str, str]:
    """Describe the machine, for readers of the numbers."""
    return {
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }

"""A container's resource usage, read from a control group around its own, which outlives the container."""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OURS = "broadway"
ABANDONED_AFTER = 600  # seconds
_NANO, _MICRO = 1e-9, 1e-6


@dataclass(frozen=True, slots=True)
class Meter:
    """The control group around one container, by the container's name."""

    name: str

    @property
    def parent(self) -> str:
        """The value of the engine's option ``cgroup_parent``."""
        return f"/{OURS}/{self.name}"

    def cpu_seconds(self) -> float | None:
        """Return the CPU time of all processes of the container, in seconds; None if it is not known."""
        if (usage := self._read("cpuacct", "cpuacct.usage")) is not None:
            return int(usage) * _NANO
        stat = self._read("", "cpu.stat") or ""
        found = [line.split()[1] for line in stat.splitlines() if line.startswith("usage_usec ")]
        return int(found[0]) * _MICRO if found else None

    def peak_memory(self) -> int | None:
        """Return the peak memory in bytes, files in memory included; None if it is not known."""
        peak = self._read("memory", "memory.max_usage_in_bytes") or self._read("", "memory.peak")
        return int(peak) if peak else None

    def remove(self) -> None:
        """Remove the group after its container, and kill the processes that are still in it.

        An engine that was killed while it started a container does not know later that the container runs.
        """
        for place in _places():
            group = place / OURS / self.name
            if not _remove(group):
                for pid in set(processes([group, *group.glob("*/")])):
                    kill(pid, self.parent)

    def _read(self, controller: str, file: str) -> str | None:
        with contextlib.suppress(OSError):
            return (ROOT / controller / OURS / self.name / file).read_text()
        return None


def can_meter(driver: str) -> bool:
    """Return True if the engine's cgroup driver allows groups around containers, and this process may make them."""
    return driver == "cgroupfs" and all(os.access(place, os.W_OK) for place in _places())


def remove_abandoned(is_abandoned: Callable[[str], bool]) -> None:
    """Remove groups whose containers no longer exist, except new ones, whose containers may be about to start.

    A group that contains processes is never removed.

    Args:
        is_abandoned: Called with the name of a container.
    """
    for place in _places():
        with contextlib.suppress(OSError):
            for directory in (place / OURS).iterdir():
                is_old = time.time() - directory.stat().st_mtime > ABANDONED_AFTER
                if is_old and directory.is_dir() and is_abandoned(directory.name):
                    _remove(directory)


def processes(directories: Iterable[Path]) -> Iterator[int]:
    """Yield the ids of the processes in groups; groups that do not exist are skipped."""
    for directory in directories:
        with contextlib.suppress(OSError):
            yield from (int(pid) for pid in (directory / "cgroup.procs").read_text().split())


def kill(pid: int, path: str) -> None:
    """Kill a process if it still is in the group; its id may have been reused since it was read."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if pid != os.getpid() and is_in(pid, path):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def is_in(pid: int, path: str) -> bool:
    """Return True if a process is in a group, whose path is relative to the root of the hierarchy."""
    with contextlib.suppress(OSError):
        return path in Path(f"/proc/{pid}/cgroup").read_text()
    return False


@cache
def _places() -> list[Path]:
    """The roots of the hierarchies: one in version 2, one for each controller in version 1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    with contextlib.suppress(OSError):
        return [each for each in ROOT.iterdir() if each.is_dir() and not each.is_symlink()]
    return []


def _remove(directory: Path) -> bool:
    """Remove a group and those in it; return False if a process is still in one of them."""
    try:
        os.rmdir(directory)  # noqa: PTH106 - many times a second
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            return False
    else:
        return True
    with contextlib.suppress(OSError):
        for child in directory.iterdir():
            if child.is_dir():
                child.rmdir()
        directory.rmdir()
        return True
    return False

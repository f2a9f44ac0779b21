"""What a container has used, from a control group around its own: that one outlives it, and so keeps its account."""

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
    """The group of one container."""

    name: str

    @property
    def parent(self) -> str:
        """The engine's ``cgroup_parent``."""
        return f"/{OURS}/{self.name}"

    def cpu_seconds(self) -> float | None:
        """CPU time of all its processes."""
        if (usage := self._read("cpuacct", "cpuacct.usage")) is not None:
            return int(usage) * _NANO
        stat = self._read("", "cpu.stat") or ""
        found = [line.split()[1] for line in stat.splitlines() if line.startswith("usage_usec ")]
        return int(found[0]) * _MICRO if found else None

    def peak_memory(self) -> int | None:
        """Bytes of memory at its highest, files in memory included."""
        peak = self._read("memory", "memory.max_usage_in_bytes") or self._read("", "memory.peak")
        return int(peak) if peak else None

    def remove(self) -> None:
        """Give the group back, once its container has gone; what is still in it is killed.

        An engine that was killed while it started a container does not know later that it runs.
        """
        for place in _places():
            group = place / OURS / self.name
            _remove(group)
            for pid in set(processes([group, *group.glob("*/")])):
                kill(pid, self.parent)

    def _read(self, controller: str, file: str) -> str | None:
        with contextlib.suppress(OSError):
            return (ROOT / controller / OURS / self.name / file).read_text()
        return None


def can_meter(driver: str) -> bool:
    """Whether groups of our own are possible: with the engine's driver on this host, and by this process."""
    return driver == "cgroupfs" and all(os.access(place, os.W_OK) for place in _places())


def remove_abandoned(is_abandoned: Callable[[str], bool]) -> None:
    """Give back the groups of containers that have gone, by their names; not new ones, which may be about to be used.

    A group that is in use cannot be removed.
    """
    for place in _places():
        with contextlib.suppress(OSError):
            for directory in (place / OURS).iterdir():
                is_old = time.time() - directory.stat().st_mtime > ABANDONED_AFTER
                if is_old and directory.is_dir() and is_abandoned(directory.name):
                    _remove(directory)


def processes(directories: Iterable[Path]) -> Iterator[int]:
    """What runs in groups, those that are not there aside."""
    for directory in directories:
        with contextlib.suppress(OSError):
            yield from (int(pid) for pid in (directory / "cgroup.procs").read_text().split())


def kill(pid: int, path: str) -> None:
    """Kill a process if it is in the group: since it was seen there its number may have become another's."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if pid != os.getpid() and is_in(pid, path):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def is_in(pid: int, path: str) -> bool:
    """Whether a process is in a group, by its path from the hierarchy's root."""
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


def _remove(directory: Path) -> None:
    with contextlib.suppress(OSError):  # somebody still is in it, or has removed it
        try:
            directory.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            for child in directory.iterdir():
                if child.is_dir():
                    child.rmdir()
            directory.rmdir()

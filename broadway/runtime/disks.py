"""The disks of a program's directories, as metrics that are read at each scrape."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from broadway.runtime import metrics

UNKNOWN = float("nan")  # the value of a disk that cannot be read now


def watch(directories: Mapping[str, Path]) -> None:
    """Export the size and the free space of the disks of directories, by the names of their settings."""
    for place, directory in directories.items():
        metrics.DISK_FREE.labels(place).set_function(_reading(directory, _free))
        metrics.DISK_SIZE.labels(place).set_function(_reading(directory, _size))


def _reading(directory: Path, measure: Callable[[os.statvfs_result], int]) -> Callable[[], float]:
    def read() -> float:
        try:
            return measure(os.statvfs(directory))
        except OSError:  # the others must still be exported
            return UNKNOWN

    return read


def _free(found: os.statvfs_result) -> int:
    return found.f_bavail * found.f_frsize


def _size(found: os.statvfs_result) -> int:
    return found.f_blocks * found.f_frsize

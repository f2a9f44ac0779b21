"""Mounting and unmounting by the system's calls themselves: programs that do it cost more than an empty job."""

from pathlib import Path

from broadway.grader.sandbox import kernel
from broadway.grader.sandbox.kernel import Mounting, Unmounting

_CAP_SYS_ADMIN = 21


def mount_memory(target: Path, *, size: int, inodes: int, mode: int) -> None:
    """Mount an empty file system in memory, of so many bytes and inodes, without devices and set-id programs.

    Raises:
        OSError: The system refuses.
    """
    options = f"size={size},nr_inodes={inodes},mode={mode:04o}"
    kernel.mount("broadway-job", str(target), "tmpfs", Mounting.NOSUID | Mounting.NODEV, options)


def may_mount() -> bool:
    """Whether this process can mount, and so limit a directory's size."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def detach(target: Path) -> None:
    """Take a mount away, now from the directory and altogether as soon as nobody uses it.

    Raises:
        OSError: The system refuses.
    """
    kernel.unmount(str(target), Unmounting.DETACH | Unmounting.NOFOLLOW)

"""Mounting and unmounting by system calls: starting mount(8) would cost more than an empty job."""

from pathlib import Path

from broadway.grader.sandbox import kernel
from broadway.grader.sandbox.kernel import Mounting, Unmounting

_CAP_SYS_ADMIN = 21


def mount_memory(target: Path, *, size: int, inodes: int, mode: int) -> None:
    """Mount an empty file system in memory, without devices and set-id programs; ``size`` is in bytes.

    Raises:
        OSError: The system refuses.
    """
    options = f"size={size},nr_inodes={inodes},mode={mode:04o}"
    kernel.mount("broadway-job", str(target), "tmpfs", Mounting.NOSUID | Mounting.NODEV, options)


def may_mount() -> bool:
    """Return True if this process can mount, and so limit a directory's size."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)


def detach(target: Path) -> None:
    """Detach a mount from its directory at once; the kernel releases it when its last user has gone.

    Raises:
        OSError: The system refuses.
    """
    kernel.unmount(str(target), Unmounting.DETACH | Unmounting.NOFOLLOW)

"""What the kernel does and Python's library, before 3.12, does not."""

import ctypes
import os
from enum import IntFlag

_libc = ctypes.CDLL(None, use_errno=True)
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


class Unshare(IntFlag):
    """From linux/sched.h."""

    FILE_SYSTEM = 0x00000200  # the working and the root directory
    MOUNTS = 0x00020000


class Mounting(IntFlag):
    """From linux/mount.h."""

    NOSUID = 0x2
    NODEV = 0x4
    BIND = 0x1000
    RECURSIVE = 0x4000
    PRIVATE = 0x40000


class Unmounting(IntFlag):
    """From <sys/mount.h>."""

    DETACH = 2
    NOFOLLOW = 8


def unshare(what: Unshare) -> None:
    """Give the calling thread something of its own.

    Raises:
        OSError: It may not have it.
    """
    _check(_libc.unshare(what), "unshare")


def own_mounts() -> None:
    """Give the calling thread mounts of its own, which nobody else sees and which go with it and what it starts.

    Raises:
        OSError: It may not have them.
    """
    unshare(Unshare.FILE_SYSTEM | Unshare.MOUNTS)
    mount("", "/", "", Mounting.RECURSIVE | Mounting.PRIVATE)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount, in the calling thread's mount namespace.

    Raises:
        OSError: With ``target`` as its file name.
    """
    done = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
    _check(done, target)


def unmount(target: str, flags: int = 0) -> None:
    """Unmount, in the calling thread's mount namespace.

    Raises:
        OSError: With ``target`` as its file name; what is in use is only detached.
    """
    _check(_libc.umount2(os.fsencode(target), flags), target)


def sync_file_system(descriptor: int) -> None:
    """Write to disk what was written to the file system of an open file.

    Raises:
        OSError: That failed.
    """
    _check(_libc.syncfs(descriptor), "syncfs")


def _check(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)

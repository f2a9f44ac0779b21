"""System calls that Python's library lacks or, before 3.12, lacked."""

import ctypes
import os
from enum import IntFlag

_libc = ctypes.CDLL(None, use_errno=True)
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


class Unshare(IntFlag):
    """Flags of unshare(2), from linux/sched.h."""

    FILE_SYSTEM = 0x00000200  # the working and the root directory
    MOUNTS = 0x00020000


class Mounting(IntFlag):
    """Flags of mount(2), from linux/mount.h."""

    NOSUID = 0x2
    NODEV = 0x4
    BIND = 0x1000
    RECURSIVE = 0x4000
    PRIVATE = 0x40000


class Unmounting(IntFlag):
    """Flags of umount2(2), from <sys/mount.h>."""

    DETACH = 2
    NOFOLLOW = 8


def unshare(flags: Unshare) -> None:
    """Separate parts of the calling thread's context from those of other threads.

    Raises:
        OSError: The system refuses.
    """
    _check(_libc.unshare(flags), "unshare")


def own_mounts() -> None:
    """Give the calling thread a private mount namespace, which ends with the thread and its child processes.

    Raises:
        OSError: The system refuses.
    """
    unshare(Unshare.FILE_SYSTEM | Unshare.MOUNTS)
    mount("", "/", "", Mounting.RECURSIVE | Mounting.PRIVATE)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system, in the calling thread's mount namespace.

    Raises:
        OSError: The system refuses; the error has ``target`` as its file name.
    """
    done = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
    _check(done, target)


def unmount(target: str, flags: int = 0) -> None:
    """Unmount a file system, in the calling thread's mount namespace.

    Raises:
        OSError: The system refuses, for instance since the mount is in use; the error has ``target`` as its file name.
    """
    _check(_libc.umount2(os.fsencode(target), flags), target)


def sync_file_system(descriptor: int) -> None:
    """Flush the file system of an open file to its disk.

    Raises:
        OSError: Data could not be written.
    """
    _check(_libc.syncfs(descriptor), "syncfs")


def _check(result: int, name: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)

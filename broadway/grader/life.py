"""Telling whether the process that left something behind still lives."""

import os
from pathlib import Path

_START_TIME_FIELD = 19  # of /proc/<pid>/stat after the command's closing parenthesis


def own_life() -> str:
    """This process, by a name that no other process of this host will ever have."""
    return _life(os.getpid()) or f"{_host()}.{os.getpid()}.0"


def is_over(life: str) -> bool:
    """Whether the named process is known to have ended. A process of another host or PID namespace is not known."""
    host, _, process = life.rpartition(".")[0].rpartition(".")
    if host.partition(".")[2] != _pid_namespace():
        return False
    if host.partition(".")[0] != _boot_id():
        return True  # the host has been started anew
    return not process.isdigit() or _life(int(process)) != life


def _life(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    started = stat.rpartition(")")[2].split()[_START_TIME_FIELD]
    return f"{_host()}.{pid}.{started}"


def _host() -> str:
    return f"{_boot_id()}.{_pid_namespace()}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _pid_namespace() -> str:
    return str(os.stat("/proc/self/ns/pid").st_ino)  # noqa: PTH116 - it is the link's target that counts

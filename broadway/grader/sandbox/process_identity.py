"""Names of processes, by which a grader recognizes the containers and files of processes that have ended."""

import os
from pathlib import Path

# Fields of /proc/<pid>/stat after the command's closing parenthesis.
_STATE_FIELD, _START_TIME_FIELD = 0, 19
_ENDED = "ZX"  # states of a process that has ended and has not been reaped


def own_identity() -> str:
    """Return a name for this process that no other process of this host will ever have."""
    return _identity(os.getpid()) or f"{_host()}.{os.getpid()}.0"


def has_ended(identity: str) -> bool:
    """Return True if the named process has ended; False if it may run in another PID namespace."""
    host, _, process = identity.rpartition(".")[0].rpartition(".")
    if host.partition(".")[2] != _pid_namespace():
        return False
    if host.partition(".")[0] != _boot_id():
        return True  # the host has been rebooted
    return not process.isdigit() or _identity(int(process)) != identity


def _identity(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[_STATE_FIELD] in _ENDED:
        return None
    return f"{_host()}.{pid}.{fields[_START_TIME_FIELD]}"


def _host() -> str:
    return f"{_boot_id()}.{_pid_namespace()}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _pid_namespace() -> str:
    return str(os.stat("/proc/self/ns/pid").st_ino)  # noqa: PTH116 - follows the link to the namespace

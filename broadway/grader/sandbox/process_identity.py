"""Names of processes, by which a grader recognizes the containers and files of processes that have ended."""

import os
from pathlib import Path

# Fields of /proc/<pid>/stat after the command's closing parenthesis.
_STATE_FIELD, _START_TIME_FIELD = 0, 19
_ENDED = "ZX"  # states of a process that has ended and has not been reaped
_PARTS = 4  # of an identity


def own_identity() -> str:
    """Return a name for this process that no other process of any host will ever have.

    The name has four parts: the host's boot, the PID namespace, the process id, and the start time.
    """
    return _identity(os.getpid()) or f"{_host()}.{os.getpid()}.0"


def is_identity(name: str) -> bool:
    """Return whether a name has the form of an identity."""
    return len(name.split(".")) == _PARTS


def has_ended(identity: str) -> bool | None:
    """Return whether the named process has ended; None if ``/proc`` cannot show it.

    ``/proc`` shows the processes of this PID namespace since the last boot. A process of another namespace may run
    beside this one. A process of another boot may run on another host, whose graders share an engine with ours, since
    the first PID namespace has the same number on every host.
    """
    host, _, process = identity.rpartition(".")[0].rpartition(".")
    if host != _host():
        return None
    return not process.isdigit() or _identity(int(process)) != identity


def is_of_earlier_boot(identity: str) -> bool:
    """Return whether the named process of this host ran in this PID namespace before the last boot."""
    boot, _, rest = identity.partition(".")
    return boot != _boot_id() and rest.partition(".")[0] == _pid_namespace()


def booted_at() -> float:
    """Return the Unix time at which this host was booted."""
    lines = Path("/proc/stat").read_text("ascii").splitlines()
    return float(next(line for line in lines if line.startswith("btime ")).split()[1])


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

"""Checks and preparation of a host that runs containers without an engine."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broadway.grader.oci.choice import missing, shortcomings
from broadway.grader.oci.facts import facts_of_host
from broadway.grader.oci.groups import prepare
from broadway.grader.ports import Size
from broadway.grader.sandbox import kernel
from broadway.grader.sandbox.kernel import Mounting, Unmounting
from broadway.grader.sandbox.profile import hosts_file
from broadway.grader.sandbox.seccomp import STRICT_RULES, SeccompError, compile_filter

STATE = Path("/run/broadway/containers")  # shared by all graders of this host, so that each can clean up after others
OF_RUNTIME = STATE.parent / "runtime"  # the runtime's own state
_ADD_SEALS, _SEALED = 1033, 0xF  # from linux/fcntl.h: no more sealing, shrinking, growing or writing


@dataclass(frozen=True, slots=True)
class Runtime:
    """The means of starting containers on this host.

    Args:
        program: The path of the OCI runtime, in a copy that containers cannot overwrite.
        state: The directory that holds one directory for each container.
        init: A program that reaps processes, for strict containers.
        seccomp: The filter of system calls, in base64.
        strict_seccomp: The filter for untrusted stages.
        hosts: The file that containers see as /etc/hosts.
        size: The capacity of a container's root file system.
    """

    program: str
    state: Path
    init: Path
    seccomp: str
    strict_seccomp: str
    hosts: Path
    size: Size


@contextlib.contextmanager
def prepared(program: str, size: Size, *, allow_32_bit: bool) -> Iterator[Runtime]:
    """Check the host, and yield the means of starting containers, which are valid within the context.

    Raises:
        ContainerError: The host lacks something, which the text names.
    """
    facts = facts_of_host(program)
    if problem := next(shortcomings(facts), None):
        raise missing(problem)
    assert facts.init is not None  # noqa: S101 - one of the shortcomings
    path = Path(facts.program)
    try:
        seccomp, strict = compile_filter(), compile_filter(STRICT_RULES, allow_32_bit=allow_32_bit)
        prepare()
    except (SeccompError, OSError) as error:
        raise missing(str(error)) from error
    with _state_in_memory(), _sealed(path) as descriptor:
        hosts = hosts_file(STATE.parent)
        yield Runtime(f"/proc/self/fd/{descriptor}", STATE, Path(facts.init).resolve(), seccomp, strict, hosts, size)


@contextlib.contextmanager
def _state_in_memory() -> Iterator[None]:
    """Prepare the directory of the state in memory, since several files are written for each container.

    If /run is on a disk, a file system in memory is mounted; the last grader that uses it unmounts it.
    """
    try:
        with _locked():
            if not _is_in_memory(STATE.parent):
                kernel.mount("broadway-run", str(STATE.parent), "tmpfs", Mounting.NOSUID | Mounting.NODEV, "mode=0755")
            STATE.mkdir(mode=0o700, exist_ok=True)
            usage = os.open(STATE, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise missing(str(error)) from error
    try:
        yield
    finally:
        with _locked():
            os.close(usage)
            if STATE.parent.is_mount() and not any(STATE.iterdir()):
                with contextlib.suppress(OSError):  # other graders use it
                    kernel.unmount(str(STATE.parent), Unmounting.NOFOLLOW)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    STATE.parent.mkdir(exist_ok=True)
    with STATE.parent.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_in_memory(directory: Path) -> bool:
    """Return True if a directory is on a file system in memory."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    kinds = [(len(point), kind) for point, kind in mounts if directory.is_relative_to(point)]
    return max(enumerate(kinds), key=lambda each: (each[1][0], each[0]))[1][1] == "tmpfs"


@contextlib.contextmanager
def _sealed(path: Path) -> Iterator[int]:
    """Yield a sealed copy of the runtime in memory, which no process can change, not even an escaping container.

    Without it, crun would make such a copy and execute itself again for every container.
    """
    descriptor = os.memfd_create("crun", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with path.open("rb") as program, os.fdopen(descriptor, "wb", closefd=False) as copy:
            shutil.copyfileobj(program, copy)
        fcntl.fcntl(descriptor, _ADD_SEALS, _SEALED)
        yield descriptor
    finally:
        os.close(descriptor)

"""Whether this host can run containers without an engine, and what it needs for that."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broadway.domain.job import FaultPhase
from broadway.grader.oci.groups import NEEDED, is_unified, prepare
from broadway.grader.ports import ContainerError, Size
from broadway.grader.sandbox import kernel
from broadway.grader.sandbox.cgroups import ROOT
from broadway.grader.sandbox.kernel import Mounting, Unmounting
from broadway.grader.sandbox.mounts import may_mount
from broadway.grader.sandbox.profile import hosts_file
from broadway.grader.sandbox.seccomp import SeccompError, compile_filter

STATE = Path("/run/broadway/containers")  # of all graders of this host, so that each can tidy up after another
OF_RUNTIME = STATE.parent / "runtime"  # what the runtime itself remembers
INITS = ("docker-init", "tini-static")
_ADD_SEALS, _SEALED = 1033, 0xF  # from linux/fcntl.h: against sealing, shrinking, growing, writing
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What containers are started with on this host.

    Args:
        program: The OCI runtime's, in a form that containers cannot overwrite.
        state: Where each container has a directory.
        init: A program for strict containers that reaps.
        seccomp: The filter.
        hosts: What containers see as /etc/hosts.
        size: What a container may store outside of its mounts.
    """

    program: str
    state: Path
    init: Path
    seccomp: str
    hosts: Path
    size: Size


@contextlib.contextmanager
def prepared(program: str, size: Size) -> Iterator[Runtime]:
    """What containers are started with, for as long as the context lasts.

    Raises:
        ContainerError: Something is missing; the text says what.
    """
    path = _found(program, "the package crun has it")
    _demand_rights()
    _demand_crun(path)
    init = next((found for name in INITS if (found := _which(name))), None)
    if init is None:
        raise _missing(f"there is no {INITS[0]}: the package tini has it")
    try:
        seccomp = compile_filter()
        prepare()
    except (SeccompError, OSError) as error:
        raise _missing(str(error)) from error
    with _state_in_memory(), _sealed(path) as descriptor:
        hosts = hosts_file(STATE.parent)
        yield Runtime(f"/proc/self/fd/{descriptor}", STATE, Path(init).resolve(), seccomp, hosts, size)


def _missing(reason: str) -> ContainerError:
    return ContainerError(f"--runtime oci: {reason}", phase=FaultPhase.CREATE, retryable=False)


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


def _found(program: str, advice: str) -> Path:
    found = _which(program)
    if found is None:
        raise _missing(f"there is no {program}: {advice}")
    return Path(found)


def _demand_rights() -> None:
    if os.geteuid() != 0 or not may_mount():
        raise _missing("this needs root, and the right to mount")
    if "overlay" not in Path("/proc/filesystems").read_text().split() and not _has_module("overlay"):
        raise _missing("the kernel has no overlay file system")
    places = [ROOT] if is_unified() else [ROOT / hierarchy for hierarchy in NEEDED]
    for place in places:
        if not (place / "cgroup.procs").exists():
            raise _missing(f"there is no control group hierarchy at {place}")
        if not os.access(place, os.W_OK):
            raise _missing(f"{place} cannot be written to")


def _has_module(name: str) -> bool:
    """Whether the kernel can load it when it is first needed."""
    return any(Path("/lib/modules", os.uname().release).rglob(f"{name}.ko*"))


def _demand_crun(path: Path) -> None:
    """Only crun takes a filter that is compiled already."""
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    if not told.startswith("crun") or "+SECCOMP" not in told:
        version = told.partition("\n")[0] or "nothing"
        raise _missing(f"{path} is not crun, built with seccomp: it says {version}")


@contextlib.contextmanager
def _state_in_memory() -> Iterator[None]:
    """The directory of the state, which several files are written to for each container: not on a disk.

    Where /run is on one, a file system in memory is mounted; the last grader that needs it takes it away.
    """
    try:
        with _alone():
            if not _is_in_memory(STATE.parent):
                kernel.mount("broadway-run", str(STATE.parent), "tmpfs", Mounting.NOSUID | Mounting.NODEV, "mode=0755")
            STATE.mkdir(mode=0o700, exist_ok=True)
            user = os.open(STATE, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _missing(str(error)) from error
    try:
        yield
    finally:
        with _alone():
            os.close(user)
            if STATE.parent.is_mount() and not any(STATE.iterdir()):
                with contextlib.suppress(OSError):  # others use it
                    kernel.unmount(str(STATE.parent), Unmounting.NOFOLLOW)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    STATE.parent.mkdir(exist_ok=True)
    with STATE.parent.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_in_memory(directory: Path) -> bool:
    """Whether what is written there goes to no disk."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    kinds = [(len(point), kind) for point, kind in mounts if directory.is_relative_to(point)]
    return max(enumerate(kinds), key=lambda each: (each[1][0], each[0]))[1][1] == "tmpfs"


@contextlib.contextmanager
def _sealed(path: Path) -> Iterator[int]:
    """A copy of the runtime in memory that nobody can change, not even a container that breaks into it.

    Without it crun makes one, and starts itself again from it, for every container.
    """
    descriptor = os.memfd_create("crun", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with path.open("rb") as program, os.fdopen(descriptor, "wb", closefd=False) as copy:
            shutil.copyfileobj(program, copy)
        fcntl.fcntl(descriptor, _ADD_SEALS, _SEALED)
        yield descriptor
    finally:
        os.close(descriptor)

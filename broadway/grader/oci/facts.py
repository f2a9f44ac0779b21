"""The facts that decide whether this host can run containers without an engine. Reading them changes nothing."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from broadway.grader.oci.choice import Facts
from broadway.grader.oci.groups import CONTROLLERS, NEEDED, is_unified
from broadway.grader.oci.images import mount_overlay
from broadway.grader.oci.layers import in_own_thread
from broadway.grader.sandbox import kernel
from broadway.grader.sandbox.cgroups import ROOT
from broadway.grader.sandbox.mounts import may_mount
from broadway.grader.sandbox.seccomp import SeccompError, compile_filter

INITS = ("docker-init", "tini-static")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION_WITHIN = 10  # seconds


def which(program: str) -> str | None:
    """Return the path of a program on the PATH, or where systems keep theirs."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


def facts_of_host(program: str) -> Facts:
    """Return the facts about this host; blocks."""
    path = which(program)
    output = _version(path) if path else None
    return Facts(
        program=path or program,
        version=None if output is None else output.partition("\n")[0],
        is_crun=bool(output and output.startswith("crun") and "+SECCOMP" in output),
        is_root=os.geteuid() == 0,
        may_mount=may_mount(),
        init=next(filter(None, map(which, INITS)), None),
        groups=_groups(),
        overlay="" if _has_overlay() else "the kernel has no overlay file system",
        seccomp=_seccomp(),
    )


def with_facts_of(place: Path, facts: Facts) -> Facts:
    """Return facts with those about the directory for unpacked images, which exists; blocks."""
    overlay = facts.overlay
    if not overlay and facts.is_root and facts.may_mount:
        try:
            in_own_thread(lambda: _try_overlay(place))
        except OSError as error:
            overlay = f"no overlay can be mounted in {place}: {error.strerror}"
    return replace(facts, overlay=overlay, free_disk=shutil.disk_usage(place).free)


def _version(path: str) -> str:
    try:
        found = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=False, timeout=_VERSION_WITHIN, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout[:1000]


def _groups() -> str:
    for place in [ROOT] if is_unified() else [ROOT / hierarchy for hierarchy in NEEDED]:
        if not (place / "cgroup.procs").exists():
            return f"there is no control group hierarchy at {place}"
        if not os.access(place, os.W_OK):
            return f"{place} cannot be written to"
    if is_unified():
        has = (ROOT / "cgroup.controllers").read_text().split()
        if lacking := [each for each in CONTROLLERS if each not in has]:
            return f"control groups do not have the controllers {', '.join(lacking)}"
    return ""


def _has_overlay() -> bool:
    """Return True if the kernel has overlays, or can load them when they are first needed."""
    known = Path("/proc/filesystems").read_text().split()
    return "overlay" in known or any(Path("/lib/modules", os.uname().release).rglob("overlay.ko*"))


def _seccomp() -> str:
    try:
        compile_filter()
    except (SeccompError, OSError) as error:
        return str(error)
    return ""


def _try_overlay(place: Path) -> None:
    """Mount an overlay as a container's, in a mount namespace that ends with this thread."""
    kernel.own_mounts()
    with tempfile.TemporaryDirectory(dir=place, prefix="overlay-") as directory:
        lower, files = Path(directory, "lower"), Path(directory, "files")
        lower.mkdir()
        files.mkdir()
        kernel.mount("broadway-root", str(files), "tmpfs", kernel.Mounting.NODEV, "size=1m,mode=0700")
        with contextlib.ExitStack() as stack:
            stack.callback(kernel.unmount, str(files), kernel.Unmounting.DETACH)
            for name in ("root", "upper", "work"):
                (files / name).mkdir()
            mount_overlay([lower], files / "root", upper=files / "upper", work=files / "work")
            kernel.unmount(str(files / "root"))

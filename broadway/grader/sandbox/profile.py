"""The profiles: what a stage's container may do and use, in the words of the SDK's ``create_container``.

*Standard* is for stages that courses have written, some of them for the original: the image's user, a network unless
the stage does without. *Strict* is for what students have written: nobody, nothing writable but what the stage names
and a small /tmp, no capability, no network.
"""

import os
import posixpath
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from broadway.domain.assignment import MAX_MEMORY, Stage, memory_bytes
from broadway.grader.ports import Labels, Limits, Mount

UNTRUSTED = 65534  # the user and group of untrusted stages: nobody
TARGET = "/job"  # where stages see the job's directory

# What programs of course images that run as root need. Not NET_BIND_SERVICE: engines since 20.10 let everybody in a
# container bind low ports. Not MKNOD, NET_RAW, SYS_CHROOT, SETFCAP, SETPCAP, AUDIT_WRITE, which engines give as well.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
SHARED_MEMORY = "64m"
STRICT_SHARED_MEMORY = "16m"
SCRATCH = "64m"  # of an untrusted stage's /tmp
SCRATCH_INODES = 4096
STRICT_PIDS = 128
GVISOR_PIDS = 512  # its own threads count
SHARES = 1024  # of the CPU; said, since what is not said is another number to version 2 of control groups
UNTRUSTED_SHARES = 128
OPEN_FILES = (1024, 16384)  # soft, hard
OOM_SCORE = 500  # containers die before the grader does
PATIENCE = 60  # seconds beyond a stage's time limit after which nobody waits for its container any more

LABEL = "io.broadway."
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def hosts_file(directory: Path) -> Path:
    """Make sure that a directory has the file that containers see as /etc/hosts; it stays, for all graders there."""
    file = directory.absolute() / "hosts"
    directory.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=directory, prefix="hosts-")
    with os.fdopen(descriptor, "w") as content:
        content.write(_HOSTS)
        os.fchmod(descriptor, 0o444)
    Path(draft).replace(file)
    return file


def container_options(
    stage: Stage, labels: Labels, *, limits: Limits, mounts: Sequence[Mount], hosts: Path | None, ahead: float = 0.0
) -> dict[str, Any]:
    """What ``create_container`` takes, with what ``create_host_config`` takes under ``host_config``.

    Args:
        stage: What the course asks for.
        labels: Whose container it is.
        limits: What it gets at most.
        mounts: What it sees of the host.
        hosts: What it sees as ``/etc/hosts`` if it has no network: then the engine gives it none.
        ahead: Seconds until it is started, at most.
    """
    has_network = stage.has_network and limits.allow_network
    return {
        "image": stage.image,
        "entrypoint": stage.entrypoint or None,  # an empty list would be no entrypoint instead of the image's own
        "environment": {**({"HOME": "/tmp"} if stage.untrusted else {}), **stage.env},  # noqa: S108 - its own
        "hostname": stage.hostname,
        "network_disabled": not has_network,
        "healthcheck": {"test": ["NONE"]},
        "labels": _labels(labels, deadline=time.time() + ahead + stage.timeout + PATIENCE),
        **({"user": f"{UNTRUSTED}:{UNTRUSTED}", "working_dir": TARGET} if stage.untrusted else {}),
        "host_config": {
            **_resources(stage, limits),
            **(_strict(limits) if stage.untrusted else _rights(stage)),
            "mounts": list(_mounts(mounts, hosts if not has_network else None)),
        },
    }


def without_volumes(options: Mapping[str, Any], image_id: str, volumes: Sequence[str]) -> dict[str, Any]:
    """An untrusted stage's options for an image with volumes: small ones in memory, not those of the engine.

    Those would be on the disk, without a limit. The image is named by its id, for it to be the one with these volumes.
    """
    host = options["host_config"]
    covered = {mount["Target"] for mount in host["mounts"]}
    places = {posixpath.normpath(volume) for volume in volumes} - covered
    tmpfs = {place: _scratch() for place in sorted(places)}
    return {**options, "image": image_id, "host_config": {**host, "tmpfs": {**tmpfs, **host["tmpfs"]}}}


def disk_quota(limits: Limits) -> dict[str, str]:
    """The engine's ``storage_opt``: a little more than the limit, so that whoever reaches it is found to be above."""
    return {"size": str(limits.disk + limits.disk // 8)}


def _labels(labels: Labels, *, deadline: float) -> dict[str, str]:
    """``deadline`` is the Unix time after which nobody waits for the container any more."""
    values = {
        "grader": labels.grader_id,
        "boot": labels.boot_id,
        "job": labels.job_id,
        "execution": labels.execution_id,
        "stage": str(labels.stage),
        "deadline": str(int(deadline)),
    }
    return {LABEL + key: value for key, value in values.items()}


def _resources(stage: Stage, limits: Limits) -> dict[str, Any]:
    memory = int(min(memory_bytes(stage.memory), limits.memory or MAX_MEMORY))
    return {
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": _pids(limits, limits.pids),
        "cpu_shares": SHARES,
        "nano_cpus": int(limits.cpus * 1e9) if limits.cpus else None,
        "runtime": limits.runtime,
        "cgroupns": "private",
        "shm_size": SHARED_MEMORY,
        "oom_score_adj": OOM_SCORE,
        "cpuset_cpus": stage.cpuset_cpus or None,
        "log_config": {"type": "none"},
        "restart_policy": {"Name": "no"},
        "ulimits": [
            {"name": "core", "soft": 0, "hard": 0},
            {"name": "fsize", "soft": limits.file_size, "hard": limits.file_size},
            {"name": "nofile", "soft": OPEN_FILES[0], "hard": OPEN_FILES[1]},
        ],
    }


def _pids(limits: Limits, most: int) -> int:
    """A sandbox of gVisor is a program with many threads, whose crash would look like the stage's; memory limits it."""
    return max(limits.pids, GVISOR_PIDS) if limits.runtime == "runsc" else min(limits.pids, most)


def _rights(stage: Stage) -> dict[str, Any]:
    if stage.privileged:
        return {"privileged": True, "ipc_mode": "private"}
    return {
        "ipc_mode": "private",
        "cap_drop": ["ALL"],
        "cap_add": list(CAPABILITIES),
        "security_opt": ["no-new-privileges:true"],
    }


def _strict(limits: Limits) -> dict[str, Any]:
    return {
        "read_only": True,
        "tmpfs": {"/tmp": _scratch()},  # noqa: S108 - its own
        "init": True,
        "ipc_mode": "private",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "cpu_shares": UNTRUSTED_SHARES,
        "pids_limit": _pids(limits, STRICT_PIDS),
        "ulimits": [
            {"name": "core", "soft": 0, "hard": 0},
            {"name": "fsize", "soft": limits.file_size, "hard": limits.file_size},
            {"name": "memlock", "soft": 0, "hard": 0},
            {"name": "msgqueue", "soft": 0, "hard": 0},
            {"name": "nofile", "soft": OPEN_FILES[0], "hard": OPEN_FILES[0]},
        ],
        "shm_size": STRICT_SHARED_MEMORY,
    }


def _scratch() -> str:
    """The options of a small file system in memory."""
    own = f"uid={UNTRUSTED},gid={UNTRUSTED},mode=0700"  # without them runc 1.1 lets only root write there
    return f"rw,nosuid,nodev,exec,size={SCRATCH},nr_inodes={SCRATCH_INODES},{own}"


def _mounts(mounts: Sequence[Mount], hosts: Path | None) -> Iterator[dict[str, Any]]:
    for mount in mounts:
        yield _bind(mount.target, mount.source, read_only=mount.read_only)
    if hosts:
        yield _bind("/etc/hosts", hosts, read_only=True)


def _bind(target: str, source: Path, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Target": target,
        "Source": str(source.absolute()),
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }

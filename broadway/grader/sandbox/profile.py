"""The profiles: the rights and resources of a stage's container, as arguments of the SDK's ``create_container``.

*Standard* is for stages that courses have written, some of them for the original: the image's user, and a network
unless the stage switches it off. *Strict* is for students' programs: an unprivileged user of the job's own, a read-only
root with the stage's writable directories and a small /tmp, no capabilities, no network.
"""

import os
import posixpath
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from broadway.domain.assignment import MAX_MEMORY, Stage, memory_bytes
from broadway.domain.stage_kind import HARNESSES
from broadway.grader.ports import Labels, Limits, Mount

TARGET = "/job"  # the mount point of the job's directory

# The capabilities that root programs of course images need. Without NET_BIND_SERVICE: engines since 20.10 let any user
# in a container bind low ports. Without MKNOD, NET_RAW, SYS_CHROOT, SETFCAP, SETPCAP and AUDIT_WRITE of the engines'
# default set.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
SHARED_MEMORY = "64m"
STRICT_SHARED_MEMORY = "16m"
SCRATCH = "64m"  # the size of an untrusted stage's /tmp
SCRATCH_INODES = 4096
STRICT_PIDS = 128
GVISOR_PIDS = 512  # gVisor's own threads count
SHARES = 1024  # CPU shares; set explicitly, since version 2 of control groups has another default
UNTRUSTED_SHARES = 128
PENDING_SIGNALS = 1024  # of an untrusted stage, timers included
STRICT_OPEN_FILES = 1024
MIN_HARD_OPEN_FILES = 16384  # up to which a standard stage may raise its own limit
OOM_SCORE = 500  # containers die before the grader does
DEADLINE_GRACE = 60  # seconds between a stage's time limit and its container's deadline

LABEL = "io.broadway."
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def hosts_file(directory: Path) -> Path:
    """Write the file that containers see as /etc/hosts; it stays in the directory, for all graders that share it."""
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
    """Return the arguments of ``create_container``, with those of ``create_host_config`` under ``host_config``.

    Args:
        stage: The stage to run.
        labels: The owner of the container.
        limits: The grader's upper limits for it.
        mounts: The files and directories of the host that it sees.
        hosts: The file to mount as ``/etc/hosts`` if it has no network, since the engine then provides none.
        ahead: The maximum number of seconds until the container is started.
    """
    has_network = stage.has_network and limits.allow_network
    return {
        "image": stage.image,
        "entrypoint": stage.entrypoint or None,  # an empty list would remove the image's entrypoint
        "environment": {**({"HOME": "/tmp"} if stage.untrusted else {}), **stage.env},  # noqa: S108 - in the container
        "hostname": stage.hostname,
        "tty": stage.tty,
        "stdin_open": stage.tty,  # a terminal's input ends only when it is told to
        "network_disabled": not has_network,
        "healthcheck": {"test": ["NONE"]},
        "labels": _labels(labels, deadline=time.time() + ahead + stage.timeout + DEADLINE_GRACE),
        **({"user": f"{labels.user}:{labels.user}", "working_dir": TARGET} if stage.untrusted else {}),
        **({"user": "0:0", "working_dir": HARNESSES[stage.kind].directory} if stage.kind else {}),
        "host_config": {
            **_resources(stage, limits),
            **({"network_mode": limits.network} if has_network and limits.network else {}),
            **(_strict(limits, labels.user) if stage.untrusted else _standard(stage)),
            "mounts": list(_mounts(mounts, hosts if not has_network else None)),
        },
    }


def without_volumes(options: Mapping[str, Any], image_id: str, volumes: Sequence[str]) -> dict[str, Any]:
    """Return an untrusted stage's options for an image with volumes, which become small file systems in memory.

    The engine's own volumes would be on the disk, without a limit. The image is named by its id, so that it is the
    image whose volumes were read.
    """
    host = options["host_config"]
    covered = {mount["Target"] for mount in host["mounts"]}
    places = {posixpath.normpath(volume) for volume in volumes} - covered
    user = int(options["user"].partition(":")[0])
    tmpfs = {place: _scratch(user) for place in sorted(places)}
    return {**options, "image": image_id, "host_config": {**host, "tmpfs": {**tmpfs, **host["tmpfs"]}}}


def disk_quota(limits: Limits) -> dict[str, str]:
    """Return the engine's ``storage_opt``: a little above the limit, so that a container can be seen to exceed it."""
    return {"size": str(limits.disk + limits.disk // 8)}


def _labels(labels: Labels, *, deadline: float) -> dict[str, str]:
    """Return labels for a container; after ``deadline``, a Unix time, no grader waits for the container."""
    values = {
        "grader": labels.grader_id,
        "boot": labels.boot_id,
        "deployment": labels.deployment,
        "job": labels.job_id,
        "execution": labels.execution_id,
        "stage": str(labels.stage),
        "user": str(labels.user),
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
            {"name": "nofile", "soft": limits.open_files, "hard": max(limits.open_files, MIN_HARD_OPEN_FILES)},
        ],
    }


def _pids(limits: Limits, most: int) -> int:
    """Return the limit of processes, which is higher for gVisor.

    A sandbox that runs out of threads crashes, and the crash would look like the stage's; memory limits its threads.
    """
    return max(limits.pids, GVISOR_PIDS) if limits.runtime == "runsc" else min(limits.pids, most)


def _standard(stage: Stage) -> dict[str, Any]:
    if stage.privileged:
        return {"privileged": True, "ipc_mode": "private"}
    return {
        "ipc_mode": "private",
        "cap_drop": ["ALL"],
        "cap_add": list(CAPABILITIES),
        "security_opt": ["no-new-privileges:true"],
    }


def _strict(limits: Limits, user: int) -> dict[str, Any]:
    open_files, pids = min(limits.open_files, STRICT_OPEN_FILES), _pids(limits, STRICT_PIDS)
    return {
        "read_only": True,
        "tmpfs": {"/tmp": _scratch(user)},  # noqa: S108 - in the container
        "init": True,
        "ipc_mode": "private",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "cpu_shares": UNTRUSTED_SHARES,
        "pids_limit": pids,
        "ulimits": [
            {"name": "core", "soft": 0, "hard": 0},
            {"name": "fsize", "soft": limits.file_size, "hard": limits.file_size},
            {"name": "memlock", "soft": 0, "hard": 0},
            {"name": "msgqueue", "soft": 0, "hard": 0},
            {"name": "nofile", "soft": open_files, "hard": open_files},
            {"name": "nproc", "soft": pids, "hard": pids},  # counted by user, who has no other processes
            {"name": "sigpending", "soft": PENDING_SIGNALS, "hard": PENDING_SIGNALS},
        ],
        "shm_size": STRICT_SHARED_MEMORY,
    }


def _scratch(user: int) -> str:
    """Return the mount options of a small file system in memory that belongs to a user."""
    own = f"uid={user},gid={user},mode=0700"  # without these, runc 1.1 lets only root write there
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

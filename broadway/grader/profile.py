"""The standard profile: what a stage's container may do and use, in the words of the SDK's ``create_container``."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broadway.assignment import Stage
from broadway.grader.stages import Labels, Limits

# What programs of course images that run as root need. Not NET_BIND_SERVICE: engines since 20.10 let everybody in a
# container bind low ports. Not MKNOD, NET_RAW, SYS_CHROOT, SETFCAP, SETPCAP, AUDIT_WRITE, which engines give as well.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
SHARED_MEMORY = "64m"
OPEN_FILES = (1024, 16384)  # soft, hard
OOM_SCORE = 500  # containers die before the grader does
PATIENCE = 60  # seconds beyond a stage's time limit after which nobody waits for its container any more

LABEL = "io.broadway."
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def container_options(
    stage: Stage, labels: Labels, *, limits: Limits, directory: Path, hosts: Path | None
) -> dict[str, Any]:
    """What ``create_container`` takes, with what ``create_host_config`` takes under ``host_config``.

    Args:
        stage: What the course asks for.
        labels: Whose container it is.
        limits: What it gets at most.
        directory: What it sees as ``/job``.
        hosts: What it sees as ``/etc/hosts`` if it has no network: then the engine gives it none.
    """
    return {
        "image": stage.image,
        "entrypoint": stage.entrypoint or None,  # an empty list would be no entrypoint instead of the image's own
        "environment": stage.env,
        "hostname": stage.hostname,
        "network_disabled": not stage.networking,
        "healthcheck": {"test": ["NONE"]},
        "labels": _labels(labels, deadline=time.time() + stage.timeout + PATIENCE),
        "host_config": {
            **_resources(stage, limits),
            **_rights(stage),
            "mounts": list(_mounts(stage, directory, hosts)),
        },
    }


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
    return {
        "mem_limit": stage.memory,
        "memswap_limit": stage.memory,
        "pids_limit": limits.pids,
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


def _rights(stage: Stage) -> dict[str, Any]:
    if stage.privileged:
        return {"privileged": True, "ipc_mode": "private"}
    return {
        "ipc_mode": "private",
        "cap_drop": ["ALL"],
        "cap_add": list(CAPABILITIES),
        "security_opt": ["no-new-privileges:true"],
    }


def _mounts(stage: Stage, directory: Path, hosts: Path | None) -> Iterator[dict[str, Any]]:
    yield _bind("/job", directory, read_only=False)
    if hosts and not stage.networking:
        yield _bind("/etc/hosts", hosts, read_only=True)


def _bind(target: str, source: Path, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Target": target,
        "Source": str(source.absolute()),
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }

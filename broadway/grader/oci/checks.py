"""Checks of an engine before it creates a container, with the engine's own error texts."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.grader.oci.spec import ImageConfig, command
from broadway.grader.ports import ContainerError, Mount

MIN_MEMORY = 6 * 1024 * 1024  # bytes
MAX_HOSTNAME = 64  # bytes of a host's name


def check_stage(stage: Stage, options: Mapping[str, Any], image: ImageConfig, mounts: Sequence[Mount]) -> None:
    """Make sure that a stage's container can be created.

    Raises:
        ContainerError: It cannot be created. Not retryable, unless a host mount is missing.
    """
    if fault := _refused(options, image):
        raise ContainerError(f"image {stage.image}: {fault}", phase=FaultPhase.CREATE, retryable=False)
    if fault := _impossible(stage):
        subject = f"image {stage.image}, entrypoint {stage.entrypoint}"[:400]
        raise ContainerError(f"{subject}: {fault}", phase=FaultPhase.START, retryable=False)
    if not all(mount.source.exists() for mount in mounts):
        reason = f"image {stage.image}: a file or directory to mount does not exist"
        raise ContainerError(reason, phase=FaultPhase.CREATE, retryable=True)


def _refused(options: Mapping[str, Any], image: ImageConfig) -> str:
    host = options["host_config"]
    if not command(options, image):
        return "No command specified"
    if host["mem_limit"] < MIN_MEMORY:
        return "Minimum memory limit allowed is 6MB"
    if any(not name for name in options["environment"]):
        return "invalid environment variable"
    cpus = host.get("cpuset_cpus")
    if cpus and not _are_available(cpus):
        return f"Requested CPUs are not available - requested {cpus}"
    return ""


def _impossible(stage: Stage) -> str:
    if any("\0" in f"{name}{value}" for name, value in stage.env.items()):
        return "invalid environment variable"
    if "\0" in "".join(stage.entrypoint):
        return "invalid argument"
    if len(stage.hostname.encode()) > MAX_HOSTNAME:
        return "sethostname: invalid argument"
    return ""


def _are_available(cpus: str) -> bool:
    """Return True if this process may use all CPUs of a list such as 0-2,7."""
    requested: set[int] = set()
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()) or int(last or first) > _MAX_CPU:
            return False
        requested.update(range(int(first), int(last or first) + 1))
    return requested <= os.sched_getaffinity(0)


_MAX_CPU = 65535

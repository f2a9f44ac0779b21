"""What an engine refuses before it makes a container, in its words."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase
from broadway.grader.oci.spec import ImageConfig, command
from broadway.grader.ports import ContainerError, Mount

LEAST_MEMORY = 6 * 1024 * 1024  # bytes
LONGEST_NAME = 64  # bytes of a host's name


def check_stage(stage: Stage, options: Mapping[str, Any], image: ImageConfig, mounts: Sequence[Mount]) -> None:
    """Make sure that a stage's container can be made.

    Raises:
        ContainerError: It cannot, and would not on another grader, unless what it shares with the host is not there.
    """
    if fault := _refused(options, image):
        raise ContainerError(f"image {stage.image}: {fault}", phase=FaultPhase.CREATE, retryable=False)
    if fault := _impossible(stage):
        what = f"image {stage.image}, entrypoint {stage.entrypoint}"[:400]
        raise ContainerError(f"{what}: {fault}", phase=FaultPhase.START, retryable=False)
    if not all(mount.source.exists() for mount in mounts):
        reason = f"image {stage.image}: what it is to share with the host is not there"
        raise ContainerError(reason, phase=FaultPhase.CREATE, retryable=True)


def _refused(options: Mapping[str, Any], image: ImageConfig) -> str:
    host = options["host_config"]
    if not command(options, image):
        return "No command specified"
    if host["mem_limit"] < LEAST_MEMORY:
        return "Minimum memory limit allowed is 6MB"
    if any(not name for name in options["environment"]):
        return "invalid environment variable"
    cpus = host.get("cpuset_cpus")
    if cpus and not _are_here(cpus):
        return f"Requested CPUs are not available - requested {cpus}"
    return ""


def _impossible(stage: Stage) -> str:
    if any("\0" in f"{name}{value}" for name, value in stage.env.items()):
        return "invalid environment variable"
    if "\0" in "".join(stage.entrypoint):
        return "invalid argument"
    if len(stage.hostname.encode()) > LONGEST_NAME:
        return "sethostname: invalid argument"
    return ""


def _are_here(cpus: str) -> bool:
    """Whether all of a list such as 0-2,7 are CPUs that this process may use."""
    wanted: set[int] = set()
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()) or int(last or first) > _MOST_CPUS:
            return False
        wanted.update(range(int(first), int(last or first) + 1))
    return wanted <= os.sched_getaffinity(0)


_MOST_CPUS = 65535

"""The container runtime that a grader's settings choose, and its limits."""

from contextlib import AbstractAsyncContextManager

from broadway.domain.assignment import memory_bytes
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.oci.containers import NAME, OciContainers, OciOptions
from broadway.grader.ports import Containers, Limits, Size
from broadway.settings.programs import GraderSettings

SECONDS_OF_A_DAY = 24 * 3600


def connect(settings: GraderSettings) -> AbstractAsyncContextManager[Containers]:
    """Connect to the runtime; entering the context raises ContainerError if it cannot be used."""
    limits = Limits(
        pids=settings.pids_limit,
        open_files=settings.open_files,
        output=settings.output_limit,
        file_size=int(memory_bytes(settings.file_size)),
        disk=int(memory_bytes(settings.disk_limit)),
        cpus=settings.cpus,
        memory=int(memory_bytes(settings.max_memory)) if settings.max_memory else None,
        allow_network=not settings.no_network,
        allow_privileged=settings.allow_privileged,
        allow_32_bit=settings.allow_32_bit,
        allow_local_registries=settings.allow_local_registries,
        network=settings.stage_network,
        runtime=settings.runtime,
    )
    if settings.runtime != NAME:
        return DockerContainers.connect(limits=limits, slots=settings.slots, work_dir=settings.work_dir)
    options = OciOptions(
        program=settings.oci_program,
        layout=settings.oci_layout,
        unused_for=settings.oci_unused_days * SECONDS_OF_A_DAY,
        size=Size(int(memory_bytes(settings.job_size)), settings.job_inodes),
    )
    return OciContainers.connect(limits=limits, slots=settings.slots, work_dir=settings.work_dir, options=options)

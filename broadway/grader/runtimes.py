"""The container runtime that a grader's settings choose, and its limits."""

from contextlib import AbstractAsyncContextManager

import structlog

from broadway.domain.assignment import memory_bytes
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.oci.choice import AUTO, DOCKER, OCI, Facts, choose
from broadway.grader.oci.containers import OciContainers, OciOptions
from broadway.grader.oci.layers import Room
from broadway.grader.oci.library import Keeping
from broadway.grader.oci.places import LAYOUT, Access, Place
from broadway.grader.oci.probe import probe
from broadway.grader.ports import Containers, Limits, Size
from broadway.settings.grader import GraderSettings

log = structlog.get_logger(__name__)

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
    if settings.runtime != OCI:
        return DockerContainers.connect(limits=limits, slots=settings.slots, work_dir=settings.work_dir)
    return OciContainers.connect(
        limits=limits, slots=settings.slots, work_dir=settings.work_dir, options=_options(settings)
    )


async def resolved(settings: GraderSettings) -> GraderSettings:
    """Return the settings with a runtime in the place of `auto`, and with None for `docker`."""
    if settings.runtime not in {AUTO, DOCKER}:
        return settings
    facts = await probe(settings.oci_program, settings.work_dir) if settings.runtime == AUTO else Facts()
    chosen = choose(settings.runtime, facts)
    log.info("runtime", runtime=chosen.runtime, reason=chosen.reason)
    return settings.model_copy(update={"runtime": chosen.setting})


def _options(settings: GraderSettings) -> OciOptions:
    images = settings.images
    place = Place(LAYOUT, settings.oci_layout.absolute()) if settings.oci_layout else Place.of(images.source)
    login = (images.registry, images.username, images.password_file) if images.password_file else None
    return OciOptions(
        program=settings.oci_program,
        place=place,
        images=images.dir,
        access=Access(
            auth_file=images.auth_file,
            login=login,
            certificates=images.certs,
            plain_http=frozenset(filter(None, images.plain_http.split(","))),
            allow_local=settings.allow_local_registries,
        ),
        room=Room(int(memory_bytes(images.max_size)), images.max_files),
        keeping=Keeping(settings.oci_unused_days * SECONDS_OF_A_DAY, int(memory_bytes(images.keep_size))),
        pull_timeout=images.pull_timeout,
        size=Size(int(memory_bytes(settings.job_size)), settings.job_inodes),
    )

"""`python -m broadway.grader TOKEN GRADER_ID`."""

from contextlib import AbstractAsyncContextManager

from broadway import service
from broadway.domain.assignment import memory_bytes
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.oci.containers import NAME, OciContainers, OciOptions
from broadway.grader.ports import ContainerError, Containers, Limits, Size
from broadway.grader.serve import run
from broadway.service import StartError
from broadway.settings.loading import load
from broadway.settings.programs import GraderSettings

SECONDS_OF_A_DAY = 24 * 3600


async def _main(settings: GraderSettings, stop: service.Stop) -> None:
    limits = Limits(
        pids=settings.pids_limit,
        output=settings.output_limit,
        file_size=int(memory_bytes(settings.file_size)),
        disk=int(memory_bytes(settings.disk_limit)),
        cpus=settings.cpus,
        memory=int(memory_bytes(settings.max_memory)) if settings.max_memory else None,
        allow_network=not settings.no_network,
        allow_privileged=settings.allow_privileged,
        runtime=settings.runtime,
    )
    try:
        async with _connect(settings, limits) as containers:
            await run(settings, containers=containers, stop=stop)
    except ContainerError as error:
        raise StartError(str(error)) from error


def _connect(settings: GraderSettings, limits: Limits) -> AbstractAsyncContextManager[Containers]:
    if settings.runtime != NAME:
        return DockerContainers.connect(limits=limits, slots=settings.slots, work_dir=settings.work_dir)
    options = OciOptions(
        program=settings.oci_program,
        layout=settings.oci_layout,
        unused_for=settings.oci_unused_days * SECONDS_OF_A_DAY,
        size=Size(int(memory_bytes(settings.job_size)), settings.job_inodes),
    )
    return OciContainers.connect(limits=limits, slots=settings.slots, work_dir=settings.work_dir, options=options)


def main() -> None:
    settings = load(GraderSettings, prog="python -m broadway.grader")
    service.run(lambda stop: _main(settings, stop), service=f"grader-{settings.grader_id}", settings=settings)


if __name__ == "__main__":
    main()

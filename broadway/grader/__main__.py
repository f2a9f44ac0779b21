"""`python -m broadway.grader TOKEN GRADER_ID`."""

import asyncio

from broadway import service
from broadway.grader import run
from broadway.grader.containers import DockerContainers
from broadway.grader.stages import ContainerError, Limits
from broadway.service import StartError
from broadway.settings import GraderSettings, load


async def _main(settings: GraderSettings, stop: asyncio.Event) -> None:
    limits = Limits(pids=settings.pids_limit, output=settings.output_limit, allow_privileged=settings.allow_privileged)
    try:
        async with DockerContainers.connect(
            limits=limits, slots=settings.slots, work_dir=settings.work_dir
        ) as containers:
            await run(settings, containers=containers, stop=stop)
    except ContainerError as error:
        raise StartError(str(error)) from error


def main() -> None:
    settings = load(GraderSettings, prog="python -m broadway.grader")
    service.run(lambda stop: _main(settings, stop), service=f"grader-{settings.grader_id}", settings=settings.log)


if __name__ == "__main__":
    main()

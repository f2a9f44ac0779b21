"""`python -m broadway.grader TOKEN GRADER_ID`."""

from broadway import service
from broadway.grader.ports import ContainerError
from broadway.grader.runtimes import connect, resolved
from broadway.grader.serve import run
from broadway.service import StartError
from broadway.settings.grader import GraderSettings
from broadway.settings.loading import load


async def _main(settings: GraderSettings, stop: service.Stop) -> None:
    try:
        settings = await resolved(settings)
        async with connect(settings) as containers:
            await run(settings, containers=containers, stop=stop)
    except ContainerError as error:
        raise StartError(str(error)) from error


def main(prog: str = "python -m broadway.grader") -> None:
    settings = load(GraderSettings, prog=prog)
    service.run(lambda stop: _main(settings, stop), service=f"grader-{settings.grader_id}", settings=settings)


if __name__ == "__main__":
    main()

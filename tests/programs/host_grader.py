"""`python -m broadway.grader` with a fake runtime: it takes the same arguments, variables and files."""

from fake_containers import FakeContainers

from broadway import service
from broadway.grader.serve import run
from broadway.settings.grader import GraderSettings
from broadway.settings.loading import load


def main() -> None:
    settings = load(GraderSettings, prog="python -m broadway.grader")
    service.run(
        lambda stop: run(settings, containers=FakeContainers(), stop=stop),
        service=f"grader-{settings.grader_id}",
        settings=settings,
    )


if __name__ == "__main__":
    main()

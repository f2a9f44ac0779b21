"""Graders in one process, whose stages do nothing: ``noop_graders URL NAME NUMBER SLOTS WORK_DIR``.

A stage with the entrypoint ``sleep SECONDS`` takes that long; every other stage ends at once.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from broadway import service
from broadway.domain.assignment import Stage
from broadway.grader.ports import Labels, Mount, Owner, StageRun, Upcoming
from broadway.grader.serve import run
from broadway.settings.grader import GraderSettings
from broadway.settings.sections import LogSettings


class NoContainers:
    """A runtime that runs nothing; see ``broadway.grader.ports.Containers``."""

    async def ping(self) -> None:
        """Return at once: the runtime is always available."""

    async def try_out(self, labels: Labels) -> None:
        """See ``Containers``."""

    async def ensure_images(self, images: Sequence[str]) -> Mapping[str, float]:  # noqa: ARG002
        """Return at once: no image is needed."""
        return {}

    async def run(
        self,
        stage: Stage,
        *,
        mounts: Sequence[Mount],  # noqa: ARG002
        labels: Labels,  # noqa: ARG002
        upcoming: Upcoming | None = None,  # noqa: ARG002
    ) -> StageRun:
        """Report the success of a stage, after its sleep if it has one."""
        begun = datetime.now(UTC)
        match stage.entrypoint:
            case ["sleep", seconds]:
                await asyncio.sleep(float(seconds))
        state = {"ExitCode": 0, "OOMKilled": False, "Status": "exited"}
        return StageRun(0, None, False, begun, datetime.now(UTC), "", 0, state)

    async def dismiss(self, upcoming: Upcoming) -> None:
        """Return at once: nothing is prepared ahead."""

    async def remove_orphans(self, is_orphan: Callable[[Owner], bool]) -> int:  # noqa: ARG002
        """Return 0: no container survives a grader."""
        return 0


def main() -> None:
    """Grade until a signal."""
    url, name, number, slots, work_dir = sys.argv[1:]
    members = [_settings(url, f"{name}-{each}", int(slots), Path(work_dir)) for each in range(int(number))]

    async def grade(stop: service.Stop) -> None:
        async with asyncio.TaskGroup() as group:
            for settings in members:
                group.create_task(run(settings, containers=NoContainers(), stop=stop))

    service.run(grade, service=name, settings=members[0])


def _settings(url: str, name: str, slots: int, work_dir: Path) -> GraderSettings:
    return GraderSettings.model_construct(
        token=SecretStr(""),
        grader_id=name,
        api_host="http://127.0.0.1:9",  # no API to join
        amqp_url=SecretStr(url),
        slots=slots,
        work_dir=work_dir / name,
        drain_timeout=5,
        log=LogSettings(dir="", level="WARNING"),
    )


if __name__ == "__main__":
    main()

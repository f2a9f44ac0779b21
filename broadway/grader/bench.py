"""The place where a grader runs jobs, whichever way they reached it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from broadway.grader.grade import Graded, grade
from broadway.grader.stages import Containers, Labels

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bench:
    """A container engine and a directory, and whose they are.

    Args:
        life: This process; see ``life.own_life``.
        directory: Where each execution gets a directory of its own, which goes with it.
        verbose: Job output goes to the log.
    """

    grader_id: str
    life: str
    containers: Containers
    directory: Path
    verbose: bool = False

    async def run(self, job_id: str, execution_id: str, stages: Sequence[Mapping[str, Any]]) -> Graded:
        """Run a job's stages. Cancelled, it leaves nothing behind."""
        graded = await grade(
            [dict(stage) for stage in stages],
            containers=self.containers,
            directory=self.directory / self.life / execution_id,
            labels=Labels(self.grader_id, self.life, job_id, execution_id, stage=0),
        )
        if self.verbose:
            log.info("output", stdout=graded.stdout, stderr=graded.stderr)
        return graded

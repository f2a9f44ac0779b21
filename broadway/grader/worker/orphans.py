"""Containers and directories that dead graders left on this host.

An orphan is only what a process that is known to have ended has left. A process with the same grader id may be alive
and belong to another deployment, so ids prove nothing.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog

from broadway.grader.grading.directories import remove, remove_rest
from broadway.grader.ports import Containers, Owner
from broadway.grader.sandbox.process_identity import has_ended, is_of_earlier_boot
from broadway.grader.worker.work_directory import ProcessDirectory, process_directories

log = structlog.get_logger(__name__)

REAP_INTERVAL = 5  # seconds


@dataclass(frozen=True, slots=True)
class Orphans:
    """The containers and directories of dead graders.

    Args:
        containers: The container engine.
        jobs: The directory with the directories of processes, each of which holds the directories of its jobs.
        own: The directory of this process, with job directories that could not be removed at the end of their jobs.
    """

    containers: Containers
    jobs: Path
    own: Path

    async def reap(self) -> None:
        """Remove all of them."""
        removed = await self.containers.remove_orphans(self._is_orphan)
        if removed:
            log.warning("orphaned containers removed", count=removed)
        await remove_rest(self.own)
        for directory in process_directories(self.jobs):
            if _is_left(directory):
                for execution in directory.path.iterdir():
                    await remove(execution)
                await remove(directory.path)

    async def reap_forever(self) -> None:
        """Remove them at intervals, until cancelled."""
        while True:
            await asyncio.sleep(REAP_INTERVAL)
            await self.reap()

    def _is_orphan(self, owner: Owner) -> bool:
        ended = has_ended(owner.identity)
        if ended is not None:
            return ended
        found = [each for each in process_directories(self.jobs) if each.path.name == owner.identity]
        locked = found[0].is_locked() if found else None
        return owner.before_boot if locked is None else not locked


def _is_left(directory: ProcessDirectory) -> bool:
    """Return whether the process of a directory has ended."""
    ended = has_ended(directory.path.name)
    if ended is not None:
        return ended
    locked = directory.is_locked()
    return is_of_earlier_boot(directory.path.name) if locked is None else not locked

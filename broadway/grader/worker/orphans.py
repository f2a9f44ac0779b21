"""Containers and directories that dead graders left on this host."""

import asyncio
from pathlib import Path

import structlog

from broadway.grader.grading.workspace import remove, remove_rest
from broadway.grader.ports import Containers
from broadway.grader.sandbox.process_identity import has_ended, own_identity

log = structlog.get_logger(__name__)

REAP_INTERVAL = 5  # seconds


async def reap_forever(containers: Containers, grader_id: str, jobs: Path) -> None:
    """Reap at intervals, until cancelled."""
    while True:
        await asyncio.sleep(REAP_INTERVAL)
        await reap(containers, grader_id, jobs)


async def reap(containers: Containers, grader_id: str, jobs: Path) -> None:
    """Remove the containers and directories of dead graders on this host, and of earlier processes of this grader.

    Args:
        containers: The container engine.
        grader_id: The id of this grader.
        jobs: The directory that holds one directory for each process, each with one directory for each execution.
    """
    own = own_identity()

    def is_orphan(owner: str, identity: str) -> bool:
        return identity != own and (owner == grader_id or has_ended(identity))

    removed = await containers.remove_orphans(is_orphan)
    if removed:
        log.warning("orphaned containers removed", count=removed)
    jobs.mkdir(parents=True, exist_ok=True)
    await remove_rest(jobs / own)
    for directory in jobs.iterdir():
        if directory.name != own and has_ended(directory.name):
            for execution in directory.iterdir():
                await remove(execution)
            await remove(directory)

"""Regrades whose jobs end as a test says, without graders."""

from collections.abc import Mapping
from typing import Any

from classes import Class, HandIn, finished, started
from graded import NOW
from harness import until

from broadway.domain.regrade_terms import RegradeState


async def ready(group: Class, identity: str, outcomes: Mapping[str, HandIn]) -> None:
    """Let the jobs of a regrade end, and the regrade be ready."""
    store = group.store

    async def run() -> Any:
        regrade = await store.grades.regrades.get(group.course, identity)
        if regrade is None or regrade.state is not RegradeState.RUNNING:
            return None
        (part,) = await store.grades.regrades.parts(regrade)
        jobs = await store.jobs.of_run(part.run_id)
        return (part, jobs) if len(jobs) == len(outcomes) else None

    part, jobs = await until(run)
    names = {item.submission: item.env["BROADWAY_STUDENT"] for item in part.items}
    of_student = {job.id: names[item.submission] for job, item in zip(jobs, part.items, strict=True)}
    await store.jobs.move(dict.fromkeys(of_student, started))
    await store.jobs.move({job: finished(outcomes[name]) for job, name in of_student.items()})

    async def is_ready() -> bool:
        regrade = await store.grades.regrades.get(group.course, identity)
        assert regrade is not None
        if regrade.state is RegradeState.RUNNING:
            await store.grades.regrades.move(regrade.finish(NOW))
        return regrade.state is RegradeState.READY

    await until(is_ready)

"""A disaster in the middle of term: a backup that was made under load is all that is left of broker and store.

Restored into an empty site, the runs that were under way go on, and every job ends once.
"""

from pathlib import Path
from typing import Any

import pytest
from faults.checker import POST_JOB, STUDENT_JOB
from faults.report import Report
from faults.servers import Parts, Servers
from faults.world import COURSES, World
from harness import IS_WHOLE, stage, until

from broadway.backup.restore import checked, restore
from broadway.backup.take import take
from broadway.mongo.raw_documents import JOBS, RUNS

SLOTS = 4
NUMBER, STUDENTS = (40, 50) if IS_WHOLE else (4, 10)
RESULTS = 2 if IS_WHOLE else 1
TOTAL = NUMBER * (STUDENTS + 2)
PERCENTAGES = (10, 50, 90) if IS_WHOLE else (40,)  # of the jobs, which have ended when a backup begins
CONFIG: dict[str, Any] = {
    "pre_processing_pipeline": [stage("exit", "0")],
    "student_pipeline": [stage("sleep", "0.1" if IS_WHOLE else "0.5"), stage("fails-for", "STUDENT_ID", "7")],
    "post_processing_pipeline": [stage("print", "report")],
}
OUTCOMES = "primary/job_outcome"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("percentage", PERCENTAGES)
async def test_a_restore_into_an_empty_site_continues_what_was_under_way(
    percentage: int, parts: Parts, empty: Servers, tmp_path: Path, report: Report
) -> None:
    async with parts() as lost:
        await make_backup(lost, tmp_path / "lost", tmp_path / "backup", after=TOTAL * percentage // 100)
    restored: dict[str, int] = {}

    async def fill() -> None:
        async with empty.site() as site:
            async for done in restore(site, tmp_path / "backup", await checked(tmp_path / "backup"), by="a test"):
                restored[done.place] = done.documents

    async with World.open(tmp_path / "site", graders=2, results=RESULTS, slots=SLOTS, fill=fill, shared=empty) as site:
        run_ids = [str(run["_id"]) for run in await site.database["grading_run"].find({}, {"_id": 1}).to_list()]
        # A client whose answer was lost submits again, and gets its run.
        assert await site.submit(COURSES[0], "mp1", STUDENTS, key="run-0") in run_ids
        await site.are_complete(run_ids, within=600)
        problems = await site.verdict(slots=SLOTS)
        students, posts, outcomes = (
            await site.outcomes(STUDENT_JOB),
            await site.outcomes(POST_JOB),
            await site.outcomes(),
        )

    seen = f"{restored[OUTCOMES]} of {TOTAL} outcomes were in the backup, all {NUMBER} runs are complete"
    injected = f"broker and store lost, and restored from a backup made under load, at {percentage}% of the jobs"
    report.row(f"restore {percentage}", injected, seen, f"{len(problems)} violations")
    assert problems == []
    assert restored[RUNS] == NUMBER
    assert 0 < restored[OUTCOMES] < TOTAL, "nothing was under way"
    assert restored[JOBS] <= outcomes.total() == TOTAL
    assert posts == {"succeeded": NUMBER}
    assert students == {"failed": NUMBER * STUDENTS // 10, "succeeded": NUMBER * STUDENTS * 9 // 10}


async def make_backup(servers: Servers, directory: Path, backup: Path, *, after: int) -> None:
    """Make a backup of a site while its services work on many runs, then lose the site."""
    async with World.open(directory, graders=2, results=RESULTS, slots=SLOTS, shared=servers) as world:
        for course in COURSES:
            await world.register(course, "mp1", CONFIG)
        for number in range(NUMBER):
            await world.submit(COURSES[number % len(COURSES)], "mp1", STUDENTS, key=f"run-{number}")
        await until(lambda: world.finished_jobs() >= after, within=300)
        async with servers.site() as site:
            async for _ in take(site, backup, version="a test"):
                pass

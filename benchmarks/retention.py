"""A pass of retention over a year of a course: what it costs, and that it leaves what the grade book refers to."""

import asyncio
import hashlib
import itertools
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from bson import ObjectId

from benchmarks import grades
from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, NOTHING, Site, ground
from broadway.domain.run import RunState

CHOSEN = Figure("retention: a dry run", "s")
PASS = Figure("retention: a pass", "s")
COST = Figure("retention: CPU of a pass, per removed job", "ms")
LEFT = Figure("retention: jobs that are left, times those of published grades", "")
CHANGED = Figure("retention: grade books that have changed", "")
POLL = 0.5  # seconds
BOOKS = ("grade_book", "grade_book_published", "grade_entries")
LOG = "x" * 400

Document = dict[str, Any]


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """A class whose grades are published, and of whose submissions one of each student counts."""
    students, submissions = plan.year
    async with ground(directory) as below, Site.open(below) as site:
        await grades.store_class(site, students, submissions)
        await _store_jobs(site, students, submissions)
        contenders: dict[str, Measure] = {grades.of_class(students, submissions): partial(_all, site, students)}
        await interleave(contenders, rounds=1, into=results, warm_up=False)
    results.notes["retention"] = "each submission has a run of one job, with its outcome and its log"


async def _all(site: Site, students: int) -> Mapping[Figure, float]:
    base = f"/api/v2/courses/{COURSE}"
    published = f"{base}/assignments/{grades.ASSIGNMENT}/grades/publish"
    (await site.http.post(published, json={"based_on": 0})).raise_for_status()
    (await site.http.put(f"{base}/retention", json={"works": 1})).raise_for_status()
    books, jobs = await _books(site), await _jobs(site)
    chosen, _ = await _pass(site, is_dry=True)
    before = site.cpu()
    seconds, counts = await _pass(site, is_dry=False)
    spent = site.cpu()
    cost = sum(spent[role] - before[role] for role in grades.READERS)
    left = await _jobs(site)
    if jobs - left != counts.get("jobs", 0):
        raise RuntimeError(f"{counts} removed, and {left} of {jobs} jobs are left")
    return {
        CHOSEN: chosen,
        PASS: seconds,
        COST: 1000 * cost / max(1, jobs - left),
        LEFT: left / students,
        CHANGED: float(await _books(site) != books),
    }


async def _pass(site: Site, *, is_dry: bool) -> tuple[float, dict[str, int]]:
    path, begun = f"/api/v2/courses/{COURSE}/retention", time.perf_counter()
    ordered = (await site.http.post(f"{path}/passes", json={"dry_run": is_dry})).raise_for_status().json()
    while True:
        found = (await site.http.get(path)).raise_for_status().json()
        made = found["last_dry_run" if is_dry else "last"]
        if made and made["id"] == ordered["id"]:
            return time.perf_counter() - begun, made["counts"]
        await asyncio.sleep(POLL)


async def _jobs(site: Site) -> int:
    return await site.database["grading_job"].count_documents({"course": COURSE})


async def _books(site: Site) -> str:
    found = [await site.database[name].find().sort("_id", 1).to_list() for name in BOOKS]
    return hashlib.sha256(repr(found).encode()).hexdigest()


async def _store_jobs(site: Site, students: int, submissions: int) -> None:
    """Store the runs, jobs and outcomes of the results of a class."""
    stages = [{**stage, "env": {}} for stage in NOTHING]
    numbers = iter(range(submissions))
    while some := list(itertools.islice(numbers, grades.AT_A_TIME)):
        results = [grades.result_of(number, students) for number in some]
        for name, document in (("grading_run", _run), ("grading_job", _job), ("job_outcome", _outcome)):
            made: Iterator[Document] = (
                document(number, each, stages) for number, each in zip(some, results, strict=True)
            )
            await site.database[name].insert_many(list(made))


def _ids(number: int, result: Document) -> tuple[str, str]:
    """Return the ids of a result's run and job."""
    return f"{number + 2**42:024x}", str(result["_id"]).partition(":")[0]


def _run(number: int, result: Document, _: list[Document]) -> Document:
    run, _job_id = _ids(number, result)
    at = result["at"]
    times = {"started_at": at, "finished_at": at + timedelta(seconds=30), "publish_at": None}
    about = {
        "state": RunState.FINISHED.value,
        "success": True,
        "order": None,
        "round": 1,
        "pool": "default",
        "students": 1,
    }
    config = {"config": {"student_pipeline": NOTHING}, "students_env": [{"BROADWAY_SUBMISSION": result["work"]}]}
    return {"_id": ObjectId(run), "assignment_id": f"{COURSE}/{grades.ASSIGNMENT}", **times, **about, **config}


def _job(number: int, result: Document, stages: list[Document]) -> Document:
    run, job = _ids(number, result)
    at, own = result["at"], {name: result[name] for name in ("course", "assignment", "outcome", "finished_at")}
    handed_in = {"id": result["work"], "student": result["student"], "at": at, "config": "c" * 64, "regrade": ""}
    state = {"state": "finished", "success": True, "generation": 1, "round": 1, "class": "interactive"}
    about = {"type": "student grading job", "grading_run_id": run, "queued_at": at, "handed_in": handed_in}
    return {"_id": ObjectId(job), **own, **state, **about, "stages": stages, "attempts": []}


def _outcome(number: int, result: Document, _: list[Document]) -> Document:
    run, job = _ids(number, result)
    times = {"started_at": result["at"], "finished_at": result["finished_at"]}
    about = {"grading_job_id": job, "grading_run_id": run, "course": COURSE, "generation": 1, "next_generation": 1}
    own = {"outcome": "succeeded", "success": True, "reason": "", "fault_phase": None, "worker_id": "g1"}
    rest = {"execution_id": result["execution"], "attempts": [], "results": [], "stdout": LOG, "stderr": ""}
    return {"_id": result["_id"], **about, **own, **times, **rest}

"""The CPU of each read, and of a job, in a course with a short history and in one with a long one."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from bson import ObjectId

from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, LOGIN, NOTHING, Site, Submitted, ground

COST = Figure("history: CPU of a no-op job, all processes", "ms")

V1, V2 = "/api/v1", f"/api/v2/courses/{COURSE}"
READERS = ("ingest", "store")  # roles that a read costs
SLOTS = 8
JOBS = 400  # of one sample
STUDENTS = 20
RECENT = 60  # runs, more than a page has
WARM_UP = 2
AGE = timedelta(days=2)  # of the latest run of the history
BETWEEN = timedelta(seconds=90)  # between two runs of the history
AT_A_TIME = 1000

NAMES = (
    "length of the queue",
    "position of a job",
    "stream of a job",
    "state of a run, v1",
    "environments of a run",
    "log, v1",
    "graders, v1",
    "runs",
    "runs of an assignment",
    "run",
    "jobs of a run",
    "job",
    "attempts",
    "assignments",
    "assignment",
    "id, whole",
)

Document = dict[str, Any]


def history(jobs: int) -> str:
    """Return the name of a number of finished jobs, as a contender."""
    return f"{jobs:,} finished jobs"


def read(name: str) -> Figure:
    """Return the figure of a read."""
    return Figure(f"history: CPU of a read, {name}", "ms")


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """Growing numbers of finished jobs, each of a run of its own, in one course."""
    async with ground(directory) as below, Site.open(below) as site:
        await site.register("noop", NOTHING)
        async with site.noop_graders("grader", slots=SLOTS):
            past = Past(site, await site.submit("noop", 1))
            await past.begin()
        for jobs in plan.history:
            await past.grow(jobs)
            numbers: dict[str, Measure] = {history(jobs): partial(_all, site, plan)}
            await interleave(numbers, rounds=1, into=results, warm_up=False)
    results.notes["history"] = f"in runs of one job; a page has the latest of {RECENT} runs that are always there"


class Past:
    """Finished runs of one job each, which are copies of one that was graded."""

    def __init__(self, site: Site, graded: Submitted) -> None:
        self._site = site
        self._graded = graded
        self._jobs = 0
        self._run: Document = {}
        self._job: Document = {}

    async def begin(self) -> None:
        """Wait for the end of the graded run, and add recent runs."""
        await self._site.ended(self._graded)
        database, run_id = self._site.database, self._graded.run_id
        self._run = await database["grading_run"].find_one({"_id": ObjectId(run_id)}) or {}
        self._job = await database["grading_job"].find_one({"grading_run_id": run_id}) or {}
        await self._add(datetime.now(UTC) - timedelta(seconds=each) for each in range(RECENT))

    async def grow(self, jobs: int) -> None:
        """Add runs to the history until it has so many jobs."""
        latest = datetime.now(UTC) - AGE
        await self._add(latest - BETWEEN * number for number in range(self._jobs, jobs))
        self._jobs = jobs

    async def _add(self, moments: Iterator[datetime]) -> None:
        while some := list(itertools.islice(moments, AT_A_TIME)):
            began = {ObjectId(): at for at in some}
            runs = [{**self._run, "_id": each, "started_at": at, "finished_at": at} for each, at in began.items()]
            jobs = [
                {**self._job, "_id": ObjectId(), "grading_run_id": str(each), "queued_at": at, "finished_at": at}
                for each, at in began.items()
            ]
            await self._site.database["grading_run"].insert_many(runs)
            await self._site.database["grading_job"].insert_many(jobs)


async def _all(site: Site, plan: Plan) -> Mapping[Figure, float]:
    async with site.noop_graders("grader", slots=SLOTS):
        await site.run("noop", STUDENTS)
        before = sum(site.cpu().values())
        await site.run("noop", JOBS)
        taken = {COST: 1000 * (sum(site.cpu().values()) - before) / JOBS}
        ended = await site.submit("noop", STUDENTS)
        await site.ended(ended)
    waiting = await site.submit("noop", STUDENTS)
    await asyncio.sleep(1)  # jobs are published after the answer
    for name, ask in zip(NAMES, await _reads(site, ended, waiting), strict=True):
        taken[read(name)] = await _cost(site, ask, plan.asked)
    (await site.http.post(f"{V2}/runs/{waiting.run_id}/cancel")).raise_for_status()
    await site.over(waiting)
    return taken


async def _cost(site: Site, ask: Callable[[], Awaitable[None]], times: int) -> float:
    for _ in range(WARM_UP):
        await ask()
    before = site.cpu()
    for _ in range(times):
        await ask()
    return 1000 * sum(spent - before[role] for role, spent in site.cpu().items() if role in READERS) / times


async def _reads(site: Site, ended: Submitted, waiting: Submitted) -> Sequence[Callable[[], Awaitable[None]]]:
    """Return the reads in the order of ``NAMES``."""
    done, queued = await _last_job(site, ended), await _last_job(site, waiting)

    async def get(path: str) -> None:
        (await site.http.get(path)).raise_for_status()

    async def stream() -> None:
        async with site.http.stream("GET", f"{V1}/stream/{COURSE}/{queued}", headers=LOGIN) as answer:
            answer.raise_for_status()

    paths = (
        f"{V1}/grading_run_status/{COURSE}/{ended.run_id}",
        f"{V1}/grading_run_env/{COURSE}/{ended.run_id}",
        f"{V1}/grading_job_log/{COURSE}/{done}",
        f"{V1}/worker/{COURSE}/all",
        f"{V2}/runs",
        f"{V2}/runs?assignment=noop",
        f"{V2}/runs/{ended.run_id}",
        f"{V2}/runs/{ended.run_id}/jobs",
        f"{V2}/jobs/{done}",
        f"{V2}/jobs/{done}/attempts",
        f"{V2}/assignments",
        f"{V2}/assignments/noop",
        f"{V2}/ids?prefix={done}",
    )
    queue = (f"{V1}/queue/{COURSE}/length", f"{V1}/queue/{COURSE}/{queued}/position")
    return [*(partial(get, path) for path in queue), stream, *(partial(get, path) for path in paths)]


async def _last_job(site: Site, submitted: Submitted) -> str:
    page = (await site.http.get(f"{V2}/runs/{submitted.run_id}/jobs")).raise_for_status().json()
    identity: str = page["items"][-1]["id"]
    return identity

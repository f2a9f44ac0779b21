"""A watcher on every job of a run: the cost of a job when few jobs are watched, and when many are."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pollers import Poller

from benchmarks.control_plane import SLOTS
from benchmarks.machine import cpu_seconds
from benchmarks.plan import Plan
from benchmarks.rounds import interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, LOGIN, NOTHING, RUN_TIMEOUT, Site, Submitted, ground

COST = Figure("CPU of ingest for a watched job", "ms")
BESIDE = Figure("CPU of a no-op job, without its grader", "ms")
OPENED = Figure("streams of a run: until all are open", "s")

POLLERS = 4
PAUSE = 0.05  # seconds between two polls of a grader that got no job
FLAGS = ("--token", "cluster-token", "--original-graders", "default", "--heartbeat-interval", "60")


def watched(number: int) -> str:
    """Return the name of a number of watched jobs, as a contender."""
    return f"{number} watched"


def in_line(number: int) -> str:
    """Return the name of a number of watched jobs that wait behind the measured ones, as a contender."""
    return f"{number} watched in line"


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """A short and a long run with a watcher on every job."""
    async with ground(directory) as below, Site.open(below, flags=FLAGS) as site:
        await site.register("noop", NOTHING)
        lengths = {watched(number): partial(_watch_all, site, number) for number in plan.watched}
        await interleave(lengths, rounds=plan.rounds, into=results)
    results.notes["streams"] = f"a stream of v1 on every job of a run, which {POLLERS} graders of v1 poll for"


async def measure_many(plan: Plan, results: Results, directory: Path) -> None:
    """A run beside watchers of jobs that wait behind it, with a watcher on every job, and without watchers."""
    async with ground(directory) as below, Site.open(below) as site:
        await site.register("noop", NOTHING)
        contenders = {
            watched(0): partial(_beside, site, plan, 0),
            in_line(plan.streams): partial(_in_line, site, plan),
            watched(plan.streams): partial(_beside, site, plan, plan.streams),
        }
        await interleave(contenders, rounds=max(2, plan.poll_rounds), into=results)
    results.notes["many streams"] = (
        f"a run of {plan.streams:,} no-op jobs on {SLOTS} slots, whose streams, or those of a run behind it, are "
        "opened before its grader starts; CPU of all processes but the grader's"
    )


async def _in_line(site: Site, plan: Plan) -> Mapping[Figure, float]:
    """Watch the jobs of a run that waits behind the measured one, whose places change with each job."""
    measured = await site.submit("noop", plan.streams)
    waiting = await site.submit("noop", plan.streams)
    async with _watching(site, await _jobs(site, waiting)):
        taken = await _graded(site, plan, measured)
        (await site.http.post(f"/api/v2/courses/{COURSE}/runs/{waiting.run_id}/cancel")).raise_for_status()
    await site.over(waiting)
    return taken


async def _beside(site: Site, plan: Plan, streams: int) -> Mapping[Figure, float]:
    submitted = await site.submit("noop", plan.streams)
    begun = time.perf_counter()
    async with _watching(site, (await _jobs(site, submitted))[:streams]):
        opened = {OPENED: time.perf_counter() - begun} if streams else {}
        return {**await _graded(site, plan, submitted), **opened}


@asynccontextmanager
async def _watching(site: Site, jobs: Sequence[str]) -> AsyncIterator[None]:
    """Open a stream of each job; at the end, wait for the end of all streams."""
    async with asyncio.timeout(RUN_TIMEOUT), asyncio.TaskGroup() as watching:
        opened = [asyncio.Event() for _ in jobs]
        for job, event in zip(jobs, opened, strict=True):
            watching.create_task(_follow(site, job, event))
        await asyncio.gather(*(event.wait() for event in opened))
        yield


async def _graded(site: Site, plan: Plan, submitted: Submitted) -> Mapping[Figure, float]:
    """Let a grader run the jobs of a run; return the CPU of a job, in all processes but the grader's, and by role."""
    before = site.cpu()
    async with site.noop_graders("graders", slots=SLOTS):
        await site.ended(submitted)
        cpu = site.cpu()
    spent = {role: 1000 * (cpu[role] - before[role]) / plan.streams for role in before}
    by_role = {Figure(f"{BESIDE.name}: {role}", "ms"): each for role, each in spent.items()}
    return {BESIDE: sum(spent.values()), **by_role}


async def _jobs(site: Site, submitted: Submitted) -> list[str]:
    status = await site.http.get(f"/api/v1/grading_run_status/{COURSE}/{submitted.run_id}")
    return list(status.raise_for_status().json()["data"]["student_jobs_state"])


@dataclass(slots=True)
class Backlog:
    """The number of ungraded jobs of a run."""

    number: int


async def _watch_all(site: Site, students: int) -> Mapping[Figure, float]:
    submitted = await site.submit("noop", students)
    jobs = await _jobs(site, submitted)
    backlog = Backlog(students)
    async with asyncio.timeout(RUN_TIMEOUT), asyncio.TaskGroup() as watching:
        for job in jobs:
            opened = asyncio.Event()
            watching.create_task(_follow(site, job, opened))
            await opened.wait()
        before = cpu_seconds(site.processes["ingest"])
        async with asyncio.TaskGroup() as grading:
            for number in range(POLLERS):
                grading.create_task(_grade(Poller(site.http, f"{submitted.run_id}-{number}"), backlog))
    return {COST: 1000 * (cpu_seconds(site.processes["ingest"]) - before) / students}


async def _follow(site: Site, job: str, opened: asyncio.Event) -> None:
    """Read a stream to its end."""
    async with site.http.stream("GET", f"/api/v1/stream/{COURSE}/{job}", headers=LOGIN) as answer:
        opened.set()
        async for _ in answer.aiter_lines():
            pass


async def _grade(grader: Poller, backlog: Backlog) -> None:
    """Poll for jobs and report them, until the backlog is empty."""
    await grader.register()
    while backlog.number:
        if job := await grader.poll():
            await grader.report(job["grading_job_id"])
            backlog.number -= 1
        else:
            await asyncio.sleep(PAUSE)

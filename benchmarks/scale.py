"""The cost of a job with many queued jobs, and with many graders."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.control_plane import BROADWAY, JOBS, SLOTS
from benchmarks.machine import spending
from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import NOTHING, Site, ground

COST = Figure("CPU of a no-op job, Broadway's processes", "ms")
IDLE = Figure("idle: CPU of the control plane, of one core", "%")
IDLE_BELOW = Figure("idle: CPU of broker and store, of one core", "%")
SUBMISSION = Figure("a roster of 1,000: until the answer", "ms")

CONTROL_PLANE = ("ingest", "dispatcher", "results")
GRADERS = "graders"
ROSTER = 1000  # the largest class
SAMPLE = 1000  # jobs of one sample at least, even if the queue is shorter
WATCH = 0.5  # seconds between two readings of memory


def memory_of(role: str) -> Figure:
    """Return the figure of a process's peak memory while the queue is processed."""
    return Figure(f"memory of {role}", "MiB")


def queued(number: int) -> str:
    """Return the name of a queue's length, as a contender."""
    return f"{number:,} queued"


def graders(number: int) -> str:
    """Return the name of a number of graders, as a contender."""
    return f"{number} graders"


async def measure_queues(plan: Plan, results: Results, directory: Path) -> None:
    """Jobs in queues of several lengths."""
    async with ground(directory) as below, Site.open(below) as site, site.noop_graders(GRADERS, slots=SLOTS):
        await site.register("noop", NOTHING)
        await site.run("noop", SAMPLE // 5)  # fill caches, and allocate the memory that stays
        for length in plan.queued:  # the shortest first, since memory that a long queue takes may stay
            lengths: dict[str, Measure] = {queued(length): partial(_work_off, site, length)}
            await interleave(lengths, rounds=1, into=results, warm_up=False)
    results.notes["queues"] = f"in rosters of {ROSTER:,} at most, until the last of them is over, on {SLOTS} slots"


async def _work_off(site: Site, length: int) -> Mapping[Figure, float]:
    repeated = max(1, SAMPLE // length)
    before = site.cpu()
    with spending() as spent:
        async with _memory(site) as memory:
            for _ in range(repeated):
                rosters = [min(ROSTER, length - start) for start in range(0, length, ROSTER)]
                submitted = [await site.submit("noop", roster) for roster in rosters]
                for each in submitted:
                    await site.ended(each)
    jobs = repeated * length
    cpu = site.cpu()
    ours = sum(cpu[role] - before[role] for role in (*CONTROL_PLANE, GRADERS))
    return {COST: 1000 * ours / jobs, JOBS: jobs / spent.wall, **{memory_of(role): m for role, m in memory.items()}}


@contextlib.asynccontextmanager
async def _memory(site: Site) -> AsyncIterator[dict[str, float]]:
    """Yield the peak memory of every process, up to date until the end of the block."""
    peak = site.memory()

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH)
            for role, now in site.memory().items():
                peak[role] = max(peak[role], now)

    watching = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        watching.cancel()


async def measure_graders(plan: Plan, results: Results, directory: Path) -> None:
    """Growing numbers of graders: working, and idle."""
    async with ground(directory) as below, Site.open(below) as site:
        await site.register("noop", NOTHING)
        for number in plan.graders:
            async with site.noop_graders(GRADERS, slots=2, number=number):
                numbers: dict[str, Measure] = {graders(number): partial(_with_graders, site, plan)}
                await interleave(numbers, rounds=1, into=results, warm_up=False)
    results.notes["graders"] = "of two slots each, all in one process; heartbeats every 10 s"


async def _with_graders(site: Site, plan: Plan) -> Mapping[Figure, float]:
    seconds = await site.run("noop", plan.graders_jobs)
    await asyncio.sleep(1)
    before = site.cpu()
    await asyncio.sleep(plan.idle)
    percent = {role: 100 * (spent - before[role]) / plan.idle for role, spent in site.cpu().items()}
    return {
        JOBS: plan.graders_jobs / seconds,
        IDLE: sum(percent[role] for role in CONTROL_PLANE),
        IDLE_BELOW: percent["broker"] + percent["store"],
    }


async def measure_submission(plan: Plan, results: Results, directory: Path) -> None:
    """The answer to a submission alone, without graders."""
    async with ground(directory) as below, Site.open(below) as site:
        await site.register("noop", NOTHING)
        await interleave({BROADWAY: partial(_submission, site, plan)}, rounds=plan.submissions, into=results)


async def _submission(site: Site, plan: Plan) -> Mapping[Figure, float]:
    before = site.cpu()
    submitted = await site.submit("noop", plan.roster)
    await asyncio.sleep(1)  # jobs are published after the answer
    cpu = {f"a roster of 1,000: CPU of {role}": 1000 * (s - before[role]) for role, s in site.cpu().items()}
    return {SUBMISSION: 1000 * submitted.seconds, **{Figure(name, "ms"): spent for name, spent in cpu.items()}}

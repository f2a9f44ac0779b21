"""No-op jobs: the throughput, and the latency from submission to start on an idle system."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.floor import BATCH, Floor
from benchmarks.plan import Plan
from benchmarks.rivals import Rival, System, rival, systems
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import NOTHING, Ground, Site, ground

JOBS = Figure("no-op jobs", "1/s")
CPU = Figure("CPU of a no-op job, all processes", "ms")
OUTSIDE = Figure("CPU of a no-op job, all processes but the store", "ms")
START = Figure("idle: submission to start, p50", "ms")

BROADWAY = "Broadway"
FLOOR = "Broadway's writes and messages alone"
SLOTS = 8
MANY_SLOTS, MORE_JOBS = 64, 2  # jobs at a time, times those on few slots
PAUSE = 0.05  # seconds between two jobs, so that each finds an idle system


def on_many_slots(contender: str) -> str:
    """Return the name of a contender with ``MANY_SLOTS`` slots."""
    return f"{contender}, {MANY_SLOTS} slots"


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """No-op jobs of Broadway and of its rivals, in turn, on one broker and one store."""
    async with ground(directory) as below, Site.open(below) as site:
        await site.register("noop", NOTHING)
        async with AsyncExitStack() as stack:
            floor = await stack.enter_async_context(Floor.open(below))
            contenders: dict[str, Measure] = {FLOOR: partial(_floor, floor, plan)}
            await stack.enter_async_context(site.noop_graders("grader", slots=SLOTS))
            contenders[BROADWAY] = partial(_broadway, site, plan)
            for system in systems(SLOTS):
                if running := await _started(stack, system, below, results):
                    contenders[system.name] = partial(_rival, running, plan)
            await interleave(contenders, rounds=plan.rounds, into=results)
        await _measure_many_slots(plan, results, site)
    results.notes["control plane"] = (
        f"{plan.noop_jobs:,} jobs at a time on {SLOTS} slots, {MORE_JOBS * plan.noop_jobs:,} on {MANY_SLOTS}; "
        "Broadway's are submitted in one request, and count as done when the run is done; `its writes and messages "
        f"alone` are made by a program without other work: those of a job from submission to outcome, {BATCH} jobs at "
        "a time, and those up to a job's start, one by one"
    )


async def _measure_many_slots(plan: Plan, results: Results, site: Site) -> None:
    """Measure Broadway and the rival that keeps results, with more jobs at a time."""
    jobs = MORE_JOBS * plan.noop_jobs
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.noop_graders("grader", slots=MANY_SLOTS))
        contenders: dict[str, Measure] = {on_many_slots(BROADWAY): partial(_throughput, site, jobs)}
        for system in systems(MANY_SLOTS):
            if system.keeps_results and (running := await _started(stack, system, site.ground, results)):
                contenders[on_many_slots(system.name)] = partial(_rival_throughput, running, jobs)
        await interleave(contenders, rounds=plan.rounds, into=results)


async def _started(stack: AsyncExitStack, system: System, below: Ground, results: Results) -> Rival | None:
    """Start a rival; if it cannot be started, record the reason and return None."""
    try:
        return await stack.enter_async_context(rival(system, below))
    except (RuntimeError, TimeoutError) as error:
        results.fail(system.name, str(error) or type(error).__name__)
        return None


async def _broadway(site: Site, plan: Plan) -> Mapping[Figure, float]:
    taken = await _throughput(site, plan.noop_jobs)
    return {**taken, START: await _idle(partial(_wait, site), plan)}


async def _throughput(site: Site, jobs: int) -> Mapping[Figure, float]:
    before = site.cpu()
    seconds = await site.run("noop", jobs)
    spent = {name: now - before[name] for name, now in site.cpu().items()}
    return {JOBS: jobs / seconds, **_per_job(spent, jobs), **_by_role(spent, jobs)}


async def _floor(floor: Floor, plan: Plan) -> Mapping[Figure, float]:
    seconds, cpu = await floor.settle(plan.noop_jobs)
    idle = await _idle(floor.latency, plan)
    return {JOBS: plan.noop_jobs / seconds, **_by_role({"store": cpu}, plan.noop_jobs), START: idle}


def _per_job(spent: Mapping[str, float], jobs: int) -> Mapping[Figure, float]:
    """Return the CPU of a job over all processes, from their seconds by role."""
    total = sum(spent.values())
    return {CPU: 1000 * total / jobs, OUTSIDE: 1000 * (total - spent["store"]) / jobs}


def _by_role(spent: Mapping[str, float], jobs: int) -> Mapping[Figure, float]:
    return {Figure(f"CPU of a no-op job, {role}", "ms"): 1000 * seconds / jobs for role, seconds in spent.items()}


async def _idle(latency: Callable[[], Awaitable[float]], plan: Plan) -> float:
    """Return the median of the latencies on an idle system, in ms."""
    waits = []
    for _ in range(plan.latencies):
        await asyncio.sleep(PAUSE)
        waits.append(await latency())
    return 1000 * median(waits)


async def _wait(site: Site) -> float:
    submitted = await site.submit("noop", 1)
    await site.ended(submitted)
    return (await site.started_at(submitted) - submitted.sent_at).total_seconds()


async def _rival(running: Rival, plan: Plan) -> Mapping[Figure, float]:
    taken = await _rival_throughput(running, plan.noop_jobs)
    return {**taken, START: await _idle(running.latency, plan)}


async def _rival_throughput(running: Rival, jobs: int) -> Mapping[Figure, float]:
    before = running.cpu()
    seconds = await running.run(jobs)
    spent = {role: now - before[role] for role, now in running.cpu().items()}
    return {JOBS: jobs / seconds, **_per_job(spent, jobs)}

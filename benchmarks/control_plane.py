"""No-op jobs: the throughput, and the latency from submission to start on an idle system."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.floor import BATCH, Floor
from benchmarks.plan import Plan
from benchmarks.rivals import Rival, rival, systems
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import NOTHING, Site, ground

JOBS = Figure("no-op jobs", "1/s")
CPU = Figure("CPU of a no-op job, all processes", "ms")
START = Figure("idle: submission to start, p50", "ms")

BROADWAY = "Broadway"
FLOOR = "Broadway's writes and messages alone"
SLOTS = 8
PAUSE = 0.05  # seconds between two jobs, so that each finds an idle system


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """No-op jobs of Broadway and of its rivals, in turn, on one broker and one store."""
    async with ground(directory) as below, Site.open(below) as site, AsyncExitStack() as stack:
        await stack.enter_async_context(site.noop_graders("grader", slots=SLOTS))
        await site.register("noop", NOTHING)
        floor = await stack.enter_async_context(Floor.open(below))
        contenders: dict[str, Measure] = {
            BROADWAY: partial(_broadway, site, plan),
            FLOOR: partial(_floor, floor, plan),
        }
        for system in systems(SLOTS):
            try:
                running = await stack.enter_async_context(rival(system, below))
            except (RuntimeError, TimeoutError) as error:
                results.fail(system.name, str(error) or type(error).__name__)
                continue
            contenders[system.name] = partial(_rival, running, plan)
        await interleave(contenders, rounds=plan.rounds, into=results)
        results.notes["control plane"] = (
            f"{plan.jobs} jobs at a time, {SLOTS} slots; Broadway's are submitted in one request, and count as done "
            "when the run is done; `its writes and messages alone` are made by a program without other work: those of "
            f"a job from submission to outcome, {BATCH} jobs at a time, and those up to a job's start, one by one"
        )


async def _broadway(site: Site, plan: Plan) -> Mapping[Figure, float]:
    before = site.cpu()
    seconds = await site.run("noop", plan.jobs)
    cpu = {name: spent - before[name] for name, spent in site.cpu().items()}
    by_role = {_cpu_of(name): 1000 * s / plan.jobs for name, s in cpu.items()}
    idle = await _idle(partial(_wait, site), plan)
    total = 1000 * sum(cpu.values()) / plan.jobs
    return {JOBS: plan.jobs / seconds, CPU: total, START: idle, **by_role}


async def _floor(floor: Floor, plan: Plan) -> Mapping[Figure, float]:
    seconds, cpu = await floor.settle(plan.jobs)
    idle = await _idle(floor.latency, plan)
    return {JOBS: plan.jobs / seconds, _cpu_of("store"): 1000 * cpu / plan.jobs, START: idle}


def _cpu_of(role: str) -> Figure:
    return Figure(f"CPU of a no-op job, {role}", "ms")


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
    before = running.cpu()
    seconds = await running.run(plan.jobs)
    cpu = running.cpu() - before
    return {JOBS: plan.jobs / seconds, CPU: 1000 * cpu / plan.jobs, START: await _idle(running.latency, plan)}

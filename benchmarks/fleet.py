"""Growing fleets of graders with a runtime that runs nothing: throughput, latency, memory, and what bends first."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from statistics import median

import httpx2

from benchmarks.machine import spending
from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import NOTHING, Site, Submitted, ground

JOBS = Figure("no-op jobs of a fleet", "1/s")
COST = Figure("CPU of a no-op job of a fleet, all processes", "ms")
MACHINE = Figure("CPU of the machine while no-op jobs flow, of one core", "%")
FILLED = Figure("a class of sleepers: jobs that start in a second until every slot has one", "1/s")
USED = Figure("a class of sleepers: of its ideal", "")
IDLE_START = Figure("idle fleet: submission to start, p50", "ms")
BUSY_START = Figure("full fleet with a backlog: submission of one student to its start, p50", "ms")
SLOWEST_START = Figure("full fleet with a backlog: submission of one student to its start, the slowest", "ms")
POOL_READ = Figure("full fleet with a backlog: answer of /api/v2/pools, the slowest", "ms")
ALONE = Figure("memory of one grader's process", "MiB")
ALONE_COST = Figure("CPU of a no-op job, one grader's process", "ms")
REFUSED = Figure("full fleet with a backlog: requests that were refused at first, with 503", "")
LOAD = Figure("load of the machine before the measurement", "")

GRADERS = "graders"
SERVICES = ("ingest", "dispatcher", "results", "broker", "store")
SLOTS = 10  # of one grader
IN_A_PROCESS = 50  # graders
TOKEN = "fleet-token"  # noqa: S105 - of this benchmark
STARTING = 300  # seconds for a fleet to register
JOBS_A_SLOT, LEAST_JOBS = 10, 500  # of a grader alone
FOR_OTHERS = 0.05  # of the slots, which bulk jobs leave
PAUSE = 0.5  # seconds between two submissions of one student
SETTLING = 3.0  # seconds after a class, before idle processes are observed


def slots(number: int) -> str:
    """Return the name of a number of slots, as a contender."""
    return f"{number:,} slots"


def cost_of(role: str) -> Figure:
    """Return the figure of a process's CPU for a job."""
    return Figure(f"CPU of a no-op job of a fleet, {role}", "ms")


def core_of(role: str) -> Figure:
    """Return the figure of a process's share of a core while jobs flow."""
    return Figure(f"CPU of {role} while no-op jobs flow, of one core", "%")


def idle_of(role: str) -> Figure:
    """Return the figure of a process's share of a core while a fleet is idle."""
    return Figure(f"CPU of {role} while the fleet is idle, of one core", "%")


def memory_of(role: str) -> Figure:
    """Return the figure of a process's memory at the end of a class."""
    return Figure(f"memory of {role} with a fleet", "MiB")


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """Growing fleets of graders of ten slots: what one control plane carries."""
    async with ground(directory) as below, Site.open(below, flags=("--metrics-token", TOKEN)) as site:
        await site.register("noop", NOTHING)
        await site.register("sleep", [{"image": "none", "entrypoint": ["sleep", f"{plan.fleet_sleep:g}"]}])
        fleets: dict[str, Measure] = {slots(SLOTS * each): partial(_fleet, site, plan, each) for each in plan.fleets}
        await interleave(fleets, rounds=1, into=results, warm_up=False)
    results.notes["fleets"] = (
        f"graders of {SLOTS} slots each, {IN_A_PROCESS} in a process, that run nothing or sleep; {plan.fleet_jobs:,} "
        f"no-op jobs in one run; a class of sleepers has two jobs of {plan.fleet_sleep:g} s for each slot, and its "
        "ideal is the time of these alone on all slots but the twentieth that a class leaves to others, so three of "
        "them one after another; graders, broker, store and control plane share the machine"
    )
    if busiest := _busiest(results, slots(SLOTS * plan.fleets[-1])):
        results.notes["first bottleneck"] = busiest


async def measure_grader(plan: Plan, results: Results, directory: Path) -> None:
    """One grader with growing numbers of slots: its memory, and its CPU for a job."""
    async with ground(directory) as below, Site.open(below) as site:
        await site.register("noop", NOTHING)
        sizes: dict[str, Measure] = {f"{each} slots of one": partial(_alone, site, each) for each in plan.grader_slots}
        await interleave(sizes, rounds=1, into=results, warm_up=False)
    results.notes["one grader"] = f"after {JOBS_A_SLOT} no-op jobs for each slot, at least {LEAST_JOBS:,}"


async def _alone(site: Site, number: int) -> Mapping[Figure, float]:
    jobs = max(LEAST_JOBS, JOBS_A_SLOT * number)
    async with site.noop_graders(GRADERS, slots=number):
        await site.run("noop", jobs // 10)
        before = site.cpu()[GRADERS]
        await site.run("noop", jobs)
        return {ALONE: site.memory()[GRADERS], ALONE_COST: 1000 * (site.cpu()[GRADERS] - before) / jobs}


def _busiest(results: Results, contender: str) -> str:
    """Return which service comes closest to a whole core while jobs flow; empty if that was not measured."""
    measured = [role for role in SERVICES if contender in results.samples.get(core_of(role), {})]
    if not measured:
        return ""
    role = max(measured, key=lambda each: results.value(core_of(each), contender))
    share, cost = results.value(core_of(role), contender), results.value(cost_of(role), contender)
    cores = os.cpu_count() or 1
    return (
        f"with {contender} the busiest service is the {role}: {share:.0f} % of a core while no-op jobs flow, "
        f"{cost:.3g} of {results.value(COST, contender):.3g} ms of CPU of a job; the machine's {cores} cores are busy "
        f"to {results.value(MACHINE, contender) / cores:.0f} %"
    )


async def _fleet(site: Site, plan: Plan, number: int) -> Mapping[Figure, float]:
    taken: dict[Figure, float] = {LOAD: os.getloadavg()[0]}
    async with fleet(site, number):
        taken |= await _flowing(site, plan)
        taken |= await _sleeping(site, plan, number)
        await asyncio.sleep(SETTLING)
        taken |= await _idle(site, plan)
    return taken


@asynccontextmanager
async def fleet(site: Site, number: int) -> AsyncIterator[None]:
    """Run graders in as few processes as they fit in."""
    async with AsyncExitStack() as stack:
        for first in range(0, number, IN_A_PROCESS):
            some = min(IN_A_PROCESS, number - first)
            graders = site.noop_graders(f"{GRADERS}-{first}", slots=SLOTS, number=some, within=STARTING)
            await stack.enter_async_context(graders)
        yield


async def _flowing(site: Site, plan: Plan) -> Mapping[Figure, float]:
    """Let jobs flow that do nothing, as many as the control plane can move."""
    await site.run("noop", plan.fleet_jobs // 10)  # fill caches
    before = _by_role(site.cpu())
    with spending() as spent:
        await site.run("noop", plan.fleet_jobs)
    cpu = {role: seconds - before[role] for role, seconds in _by_role(site.cpu()).items()}
    return {
        JOBS: plan.fleet_jobs / spent.wall,
        COST: 1000 * sum(cpu.values()) / plan.fleet_jobs,
        MACHINE: 100 * spent.cpu / spent.wall,
        **{cost_of(role): 1000 * seconds / plan.fleet_jobs for role, seconds in cpu.items()},
        **{core_of(role): 100 * seconds / spent.wall for role, seconds in cpu.items()},
    }


async def _sleeping(site: Site, plan: Plan, number: int) -> Mapping[Figure, float]:
    """Fill all slots twice with jobs that sleep, with submissions of one student beside them."""
    all_slots = SLOTS * number
    submitted = await site.submit("sleep", 2 * all_slots)
    beside = await _beside(site, plan, submitted)
    await site.ended(submitted)
    wall = time.perf_counter() - submitted.begun
    starts = sorted((start - submitted.sent_at).total_seconds() for start in await site.starts(submitted))
    of_bulk = all_slots - math.floor(all_slots * FOR_OTHERS)
    return {
        FILLED: of_bulk / starts[of_bulk - 1],
        USED: math.ceil(2 * all_slots / of_bulk) * plan.fleet_sleep / wall,
        **beside.figures(),
        **{memory_of(role): mebibytes for role, mebibytes in _by_role(site.memory()).items()},
    }


@dataclass(slots=True)
class _Beside:
    """Seconds until starts, and of answers, beside a class; and the requests that were refused."""

    starts: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    refused: int = 0

    def figures(self) -> Mapping[Figure, float]:
        return {
            BUSY_START: 1000 * median(self.starts),
            SLOWEST_START: 1000 * max(self.starts),
            POOL_READ: 1000 * max(self.answers),
            REFUSED: self.refused,
        }


async def _beside(site: Site, plan: Plan, bulk: Submitted) -> _Beside:
    """Submit for single students, and ask for the pools' loads, while a class is on its way."""
    beside = _Beside()
    while len(beside.starts) < plan.latencies or time.perf_counter() - bulk.begun < plan.fleet_sleep:
        begun = datetime.now(UTC)
        while (single := await _submitted(site)) is None:  # the wait counts from the first try
            beside.refused += 1
            await asyncio.sleep(PAUSE)
        await site.ended(single)
        beside.starts.append((await site.started_at(single) - begun).total_seconds())
        asked = time.perf_counter()
        beside.refused += not await _reads_load(site)
        beside.answers.append(time.perf_counter() - asked)
        await asyncio.sleep(PAUSE)
    return beside


async def _submitted(site: Site) -> Submitted | None:
    """Submit for one student; return None if the store is too slow for the request."""
    try:
        return await site.submit("noop", 1)
    except httpx2.HTTPStatusError as error:
        if error.response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        return None


async def _reads_load(site: Site) -> bool:
    """Ask for the load of the only pool, as a scaler does; return whether the answer has it."""
    answer = await site.http.get("/api/v2/pools/default", headers={"Authorization": f"Bearer {TOKEN}"})
    return answer.is_success and answer.json()["slots"]["live"] > 0


async def _idle(site: Site, plan: Plan) -> Mapping[Figure, float]:
    before = _by_role(site.cpu())
    await asyncio.sleep(plan.idle)
    cpu = {role: seconds - before[role] for role, seconds in _by_role(site.cpu()).items()}
    waits = []
    for _ in range(plan.latencies):
        await asyncio.sleep(PAUSE)
        single = await site.submit("noop", 1)
        await site.ended(single)
        waits.append((await site.started_at(single) - single.sent_at).total_seconds())
    idle = {idle_of(role): 100 * seconds / plan.idle for role, seconds in cpu.items()}
    return {IDLE_START: 1000 * median(waits), **idle}


def _by_role(values: Mapping[str, float]) -> dict[str, float]:
    """Return values by role, with those of all processes of graders together."""
    graders = sum(value for name, value in values.items() if name.startswith(GRADERS))
    return {**{role: values[role] for role in SERVICES}, GRADERS: graders}

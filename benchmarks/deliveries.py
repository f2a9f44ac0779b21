"""Pushes at a steady rate: the time until their answers, and their cost, with and without grading beside them."""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

from faults.wire import Wire
from pushes import push, signature

from benchmarks.machine import cpu_seconds
from benchmarks.plan import Plan
from benchmarks.programs.bare_hook import SECRET
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.scale import ROSTER
from benchmarks.site import COURSE, NOTHING, START, Ground, Site, ground
from broadway.domain.run import RunState
from broadway.domain.webhook import DeliveryState
from broadway.local.processes import accepts, child, free_ports

RATE = 100  # pushes per second
STUDENTS = 1000
SLOTS = 8
DRAINED = 180.0  # seconds until all pushes are decided and graded
HOOK = f"/api/v2/courses/{COURSE}/hooks/git"
FLAGS = ("--max-waiting-jobs", "1000000")

BARE = "a bare endpoint, one durable insert"
ANSWERS = "Broadway, no graders"
GRADING = "Broadway, while grading goes on"
BACKLOG = "Broadway, while many jobs wait"

P50 = Figure("a push: until its answer, p50", "ms")
P99 = Figure("a push: until its answer, p99", "ms")
COST = Figure("CPU of a push, all processes", "ms")
OWN = Figure("CPU of a push, the process that answers", "ms")
DECIDED = Figure("pushes whose answer had the decision", "%")
REFUSED = Figure("pushes that were not taken", "%")


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """Pushes at 100 a second, with and without grading, beside a bare endpoint."""
    async with ground(directory) as below, Site.open(below, flags=FLAGS) as site, AsyncExitStack() as stack:
        await _prepare(site)
        bare = await stack.enter_async_context(_bare(below))
        contenders: dict[str, Measure] = {
            BARE: partial(_push_to_bare, site, bare, plan),
            ANSWERS: partial(_push, site, plan),
            GRADING: partial(_push_while_grading, site, plan),
        }
        await interleave(contenders, rounds=plan.push_rounds, into=results, warm_up=False)
        await interleave({BACKLOG: partial(_push_behind, site, plan)}, rounds=1, into=results, warm_up=False)
    results.notes["deliveries"] = (
        f"{RATE} pushes a second of {STUDENTS} students in turn, {plan.pushes} at a time; grading: a bulk run of "
        f"{plan.jobs} no-op jobs and the pushes' own, on {SLOTS} slots; the backlog: {plan.queued[-1]:,} jobs; "
        "CPU of a push with its job, until all are over"
    )


async def _prepare(site: Site) -> None:
    await site.register("noop", NOTHING)
    students = [f"s{number}" for number in range(STUDENTS)]
    roster = [{"student": name, "repository": f"cs/{name}", "env": {"STUDENT_ID": name}} for name in students]
    path = f"/api/v2/courses/{COURSE}"
    for part, body in (
        ("assignments/noop/roster", {"students": roster}),
        ("hooks/git", {"assignment": "noop", "secrets": [SECRET]}),
    ):
        answer = await site.http.put(f"{path}/{part}", json=body)
        answer.raise_for_status()


@dataclass(frozen=True, slots=True)
class Bare:
    """The bare endpoint's process."""

    pid: int
    port: int


@contextlib.asynccontextmanager
async def _bare(below: Ground) -> AsyncIterator[Bare]:
    (port,) = free_ports(1)
    command = (sys.executable, "-m", "benchmarks.programs.bare_hook", below.store.dsn, str(port))
    async with child("bare", command, log=below.directory / "bare.log", env=below.environment) as running:
        await running.until(partial(accepts, port), within=START)
        yield Bare(running.pid, port)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a push, and the seconds that it took."""

    status: int
    state: str | None
    seconds: float


async def _pushed(port: int, path: str, number: int) -> list[Answer]:
    """Send pushes at the rate, whether or not earlier ones are answered."""
    answers: list[Answer] = []
    async with Wire.to("127.0.0.1", port) as wire, asyncio.TaskGroup() as group:

        async def send(student: str) -> None:
            body = push(student)
            raw = json.dumps(body).encode()
            headers = {"X-GitHub-Delivery": body["after"], "X-Hub-Signature-256": signature(raw, SECRET)}
            sent = time.perf_counter()
            status, answer = await wire.post(path, raw, headers)
            answers.append(Answer(status, answer.get("state"), time.perf_counter() - sent))

        begun = time.perf_counter()
        for each in range(number):
            await asyncio.sleep(max(0.0, begun + each / RATE - time.perf_counter()))
            group.create_task(send(f"s{each % STUDENTS}"))
    return answers


def _figures(answers: list[Answer]) -> dict[Figure, float]:
    waits = [1000 * answer.seconds for answer in answers]
    states = Counter(answer.state for answer in answers)
    refused = sum(answer.status >= 400 for answer in answers)  # noqa: PLR2004 - a refusal
    return {
        P50: median(waits),
        P99: quantiles(waits, n=100)[-1],
        DECIDED: 100 * states["accepted"] / len(answers),
        REFUSED: 100 * refused / len(answers),
    }


async def _push_to_bare(site: Site, bare: Bare, plan: Plan) -> Mapping[Figure, float]:
    def cpu() -> tuple[float, float]:
        return cpu_seconds(bare.pid), cpu_seconds(site.processes["store"])

    before = cpu()
    answers = await _pushed(bare.port, "/hook", plan.pushes)
    own, stored = (after - earlier for after, earlier in zip(cpu(), before, strict=True))
    return {**_figures(answers), COST: 1000 * (own + stored) / plan.pushes, OWN: 1000 * own / plan.pushes}


async def _push(site: Site, plan: Plan) -> Mapping[Figure, float]:
    """Push while no grader is there; the cost is that of answers, decisions and queued jobs."""
    before = site.cpu()
    answers = await _answered(site, plan)
    await _until_decided(site)
    figures = {**_figures(answers), **_costs(site, before, plan)}
    async with site.noop_graders("cleaner", slots=SLOTS):  # the next measurement begins without waiting jobs
        await _until_graded(site)
    return figures


async def _push_while_grading(site: Site, plan: Plan) -> Mapping[Figure, float]:
    async with site.noop_graders("grader", slots=SLOTS):
        alone = site.cpu()
        await site.run("noop", plan.jobs)
        per_job = {role: (spent - alone[role]) / plan.jobs for role, spent in site.cpu().items()}
        submitted = await site.submit("noop", plan.jobs)
        before = site.cpu()
        answers = await _answered(site, plan)
        await site.ended(submitted)
        await _until_decided(site)
        await _until_graded(site)
        bulk = {role: spent * plan.jobs for role, spent in per_job.items()}
        return {**_figures(answers), **_costs(site, {role: before[role] + bulk[role] for role in before}, plan)}


async def _push_behind(site: Site, plan: Plan) -> Mapping[Figure, float]:
    """Push while the course's backlog is long and no grader is there; the backlog is not graded."""
    for start in range(0, plan.queued[-1], ROSTER):
        await site.submit("noop", min(ROSTER, plan.queued[-1] - start))
    await _until_decided(site)
    before = site.cpu()
    answers = await _answered(site, plan)
    await _until_decided(site)
    return {**_figures(answers), **_costs(site, before, plan)}


async def _answered(site: Site, plan: Plan) -> list[Answer]:
    port = urlsplit(str(site.http.base_url)).port or 0
    return await _pushed(port, HOOK, plan.pushes)


def _costs(site: Site, before: Mapping[str, float], plan: Plan) -> dict[Figure, float]:
    spent = {role: 1000 * (now - before[role]) / plan.pushes for role, now in site.cpu().items() if role in before}
    by_role = {Figure(f"CPU of a push, {role}", "ms"): each for role, each in spent.items()}
    return {COST: sum(spent.values()), OWN: spent["ingest"], **by_role}


async def _until_decided(site: Site) -> None:
    await _until_none(site, "hook_delivery", {"state": DeliveryState.RECEIVED.value})
    await _until_none(site, "grading_run", {"state": RunState.STUDENTS.value, "publish_at": {"$ne": None}})


async def _until_graded(site: Site) -> None:
    await _until_none(site, "grading_run", {"state": RunState.STUDENTS.value})


async def _until_none(site: Site, collection: str, query: Mapping[str, object]) -> None:
    async with asyncio.timeout(DRAINED):
        while await site.database[collection].find_one(dict(query), {"_id": 1}):  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.5)

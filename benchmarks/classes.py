"""Classes in real containers, compared with the ideal: the time in which their jobs would keep all slots busy."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from benchmarks.images import BUSYBOX
from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import Site, Submitted, ground
from benchmarks.stages import DOCKER, OCI, engine_with_image

SLEEPING = Figure("class of sleepers on 8 slots, of its ideal", "")
BUSY = Figure("class of CPU-bound jobs on 2 slots, of its ideal", "")
BEREFT = Figure("after one of two graders is killed, of its ideal", "")

SLOTS = 8
CORES = 2
BUSY_SECONDS = 0.3
PROBES = 10
POLL = 0.2  # seconds between two polls of the number of finished jobs
RUNTIMES = {DOCKER: "runc", OCI: "oci"}


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """Three classes on each runtime: sleepers, CPU-bound jobs, and sleepers that lose a grader."""
    async with engine_with_image(directory) as host, ground(directory) as below, Site.open(below) as site:
        loops = await _loops_of(BUSY_SECONDS)
        await site.register("sleep", [_stage("sleep", str(plan.sleep))])
        await site.register("busy", [_stage(*_busy(loops))])
        contenders: dict[str, Measure] = {
            name: partial(_classes, site, host, runtime, plan, loops) for name, runtime in RUNTIMES.items()
        }
        await interleave(contenders, rounds=plan.class_rounds, into=results, warm_up=False)
    results.notes["classes"] = (
        f"{plan.students} students of {plan.sleep:g} s of sleep on {SLOTS} slots; {plan.busy_students} of "
        f"{BUSY_SECONDS:g} s of computing on {CORES} slots, whose ideal is the bare command, {CORES} at a time; "
        f"{plan.bereft_students} sleepers on two graders, one of which is killed half-way: the rest, on the other's "
        f"{SLOTS // 2} slots"
    )


async def _classes(site: Site, host: str, runtime: str, plan: Plan, loops: int) -> Mapping[Figure, float]:
    start = partial(site.grader, runtime=runtime, docker_host=host)
    name = f"grader-{time.time_ns()}"
    async with start(name, slots=SLOTS):
        slept = await site.run("sleep", plan.students)
    async with start(f"{name}-busy", slots=CORES):
        bare = await _bare(plan, loops)
        busy = await site.run("busy", plan.busy_students)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(start(f"{name}-left", slots=SLOTS // 2))
        victim = await stack.enter_async_context(start(f"{name}-killed", slots=SLOTS // 2))
        bereft = await _bereft(site, victim.process.kill, plan)
    ideal = plan.students * plan.sleep / SLOTS
    return {SLEEPING: ideal / slept, BUSY: bare / busy, BEREFT: bereft}


async def _bereft(site: Site, kill: Callable[[], None], plan: Plan) -> float:
    """Return the used share of the remaining slots after the death of a grader."""
    submitted = await site.submit("sleep", plan.bereft_students)
    done = await _half(site, submitted, plan.bereft_students)
    kill()
    begun = time.perf_counter()
    await site.ended(submitted)
    ideal = (plan.bereft_students - done) * plan.sleep / (SLOTS // 2)
    return ideal / (time.perf_counter() - begun)


async def _half(site: Site, submitted: Submitted, students: int) -> int:
    """Wait until half of the jobs are finished, and return the number of finished jobs."""
    jobs, finished = site.database["grading_job"], {"grading_run_id": submitted.run_id, "state": "finished"}
    while (done := await jobs.count_documents(finished)) < students // 2:  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(POLL)
    return done


def _stage(*command: str) -> dict[str, object]:
    return {"image": BUSYBOX, "entrypoint": list(command), "networking": False}


def _busy(loops: int) -> tuple[str, ...]:
    return ("sh", "-c", f"i=0; while [ $i -lt {loops} ]; do i=$((i + 1)); done")


async def _loops_of(seconds: float) -> int:
    """Return the number of rounds of a shell's loop that take so many seconds on this machine."""
    probe = 200_000
    # The minimum, since other programs take time, too.
    taken = min([await _timed(lambda: _run(*_busy(probe))) for _ in range(PROBES)])
    return int(probe * seconds / taken)


async def _bare(plan: Plan, loops: int) -> float:
    """Return the seconds that the commands of a busy class take without Broadway and without containers."""
    remaining = iter(range(plan.busy_students))

    async def work() -> None:
        for _ in remaining:
            await _run(*_busy(loops))

    return await _timed(lambda: asyncio.gather(*(work() for _ in range(CORES))))


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec("busybox", *command)
    await process.wait()

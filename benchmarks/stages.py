"""The overhead of a stage beyond its program: alone, many at a time, several in a job."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median

import docker

from benchmarks.images import BUSYBOX, busybox
from benchmarks.kernel import Kernel
from benchmarks.machine import spending
from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.runtimes import DockerRun, Original, Runtime, broadway, original
from benchmarks.samples import Figure, Results
from broadway.local.engine import private

AT_A_TIME = (1, 2, 4, 8)
JOBS_AT_A_TIME = (1, 2, 4)
STAGES_OF_A_JOB = 3
ADDED_STAGES, ADDED_SECONDS = 5, 0.3  # of the job whose added latency is measured

WALL = Figure("stage of `true`, one at a time", "ms")
CPU = Figure("its CPU, whole machine", "ms")
RATES = {number: Figure(f"stages, {number} at a time", "1/s") for number in AT_A_TIME}
BEST = Figure("stages, at the best of these", "1/s")
JOBS = Figure("jobs of three stages, at the best of 1, 2, 4 at a time", "1/s")
ADDED = Figure("added to a stage of 0.3 s, in a job of five", "ms")

DOCKER = "Broadway, Docker"
DOCKER_CRUN = "Broadway, Docker with crun"
OCI = "Broadway, oci"
DOCKER_RUN = "docker run"
ORIGINAL = "the original, no network"
ORIGINAL_BRIDGE = "the original, default network"
START_ALONE = "the engine's start of a container alone"
KERNEL = "the kernel's part alone"

Opened = AbstractAsyncContextManager[Runtime]


@asynccontextmanager
async def engine_with_image(directory: Path) -> AsyncIterator[str]:
    """Yield the address of a private engine that has the image."""
    async with private(directory / "engine") as running:
        await asyncio.to_thread(provide, running.docker_host, BUSYBOX, busybox())
        yield running.docker_host


def provide(docker_host: str, image: str, archive: bytes) -> None:
    """Import a root file system into an engine, as an image."""
    repository, _, tag = image.partition(":")
    client = docker.APIClient(docker_host, version="auto")
    client.import_image_from_data(archive, repository=repository, tag=tag)
    client.close()


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """The overhead of a stage, for all runtimes in turn, on one private engine."""
    shared = directory / "shared"
    shared.mkdir()
    async with engine_with_image(directory) as host, AsyncExitStack() as stack:
        contenders: dict[str, Measure] = {DOCKER_RUN: partial(_costs, DockerRun(host, shared), plan)}
        openers: dict[str, Callable[[], Opened]] = {
            DOCKER: partial(broadway, "runc", host, shared),
            DOCKER_CRUN: partial(broadway, "crun", host, shared),
            OCI: partial(broadway, "oci", host, shared, strict=True),
            ORIGINAL: partial(original, host, shared, networking=False),
            ORIGINAL_BRIDGE: partial(original, host, shared, networking=True),
        }
        for name, opener in openers.items():
            try:
                contenders[name] = partial(_costs, await stack.enter_async_context(opener()), plan)
            except Exception as error:  # noqa: BLE001 - an unavailable runtime is a finding
                results.fail(name, f"{type(error).__name__}: {error}")
        alone = await stack.enter_async_context(original(host, shared, networking=False))
        contenders[START_ALONE] = partial(_starts, alone, plan)
        (directory / "kernel").mkdir()
        try:
            contenders[KERNEL] = partial(_costs, await asyncio.to_thread(Kernel.prepared, directory / "kernel"), plan)
        except OSError as error:
            results.fail(KERNEL, f"{type(error).__name__}: {error}")
        await interleave(contenders, rounds=plan.stage_rounds, into=results, warm_up=False)
    results.notes["stages"] = (
        f"`true` in busybox with a memory limit and a shared directory, {plan.stages} in each sample; the oci runtime "
        "with its strict profile, Broadway's other runtimes with the standard one, the others with their own defaults"
    )


async def _costs(runtime: Runtime, plan: Plan) -> Mapping[Figure, float]:
    stage = partial(runtime.stage, "true")
    await stage()
    with spending() as alone:
        for _ in range(plan.stages):
            await stage()
    rates = {RATES[number]: await _rate(stage, number, plan.stages) for number in AT_A_TIME}
    job = partial(runtime.job, *[("true",)] * STAGES_OF_A_JOB)
    jobs = [await _rate(job, number, max(number, plan.stages // STAGES_OF_A_JOB)) for number in JOBS_AT_A_TIME]
    begun = time.perf_counter()
    await runtime.job(*[("sleep", str(ADDED_SECONDS))] * ADDED_STAGES)
    added = (time.perf_counter() - begun) / ADDED_STAGES - ADDED_SECONDS
    return {
        WALL: 1000 * alone.wall / plan.stages,
        CPU: 1000 * alone.cpu / plan.stages,
        **rates,
        BEST: max(rates.values()),
        JOBS: max(jobs),
        ADDED: 1000 * added,
    }


async def _starts(runtime: Original, plan: Plan) -> Mapping[Figure, float]:
    """Measure the start of a container, the minimum between two stages unless the next container starts early."""
    return {ADDED: 1000 * median([await runtime.starting("true") for _ in range(plan.stages)])}


async def _rate(work: Callable[[], Awaitable[None]], at_a_time: int, number: int) -> float:
    """Return how often per second the work is done, so many at a time."""
    remaining = iter(range(number))

    async def repeat() -> None:
        for _ in remaining:
            await work()

    begun = time.perf_counter()
    await asyncio.gather(*(repeat() for _ in range(at_a_time)))
    return number / (time.perf_counter() - begun)

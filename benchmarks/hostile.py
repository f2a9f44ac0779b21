"""The cost of hostile submissions for honest ones: on the same host, and in the same class."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from hostile.attacks import ATTACKS, FLAGS, LIMIT, mixed, pipeline, roster
from hostile.corpus import LIMITS, SECRET, SIZE, Case, load
from images import HOSTILE, hostile

from benchmarks.plan import Plan
from benchmarks.rounds import interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, Site, Submitted, ground
from benchmarks.stages import DOCKER, OCI, engine_with_image, provide
from broadway.domain.job import Outcome
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import Graded, grade
from broadway.grader.oci.choice import OCI as NAME
from broadway.grader.oci.containers import OciContainers
from broadway.grader.ports import Containers, Labels
from broadway.grader.sandbox.users import Users

BESIDE = Figure("honest job beside a hostile one, times alone", "")
MIXED = Figure("class half of which is hostile, of the time its halves need alone", "")

GVISOR = "Broadway, Docker with runsc"
RUNTIMES: dict[str, str | None] = {DOCKER: None, OCI: NAME, GVISOR: "runsc"}
HONEST = "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done; echo 42"  # most of a second of computing
SLOWER = 2  # times as long as alone: no honest job should take longer
TRIES = 3  # other programs use the machine, too
SLOTS, HOSTS = 2, ("host1", "host2")


@asynccontextmanager
async def _engine(directory: Path) -> AsyncIterator[str]:
    async with engine_with_image(directory) as host:
        await asyncio.to_thread(provide, host, HOSTILE, hostile())
        yield host


@dataclass(frozen=True, slots=True)
class Bench:
    """A runner of jobs on one runtime. ``canary`` is a file of the host whose path hostile jobs know."""

    containers: Containers
    directories: Directories
    canary: Path
    _numbers: "count[int]"
    _users: Users

    async def honest(self) -> float:
        """Return the seconds that an honest job takes.

        Raises:
            RuntimeError: The job has not succeeded with its own output.
        """
        stage = {"image": HOSTILE, "entrypoint": ["sh", "-c", HONEST], "networking": False, "memory": "64m"}
        begun = time.perf_counter()
        graded = await self._run([{**stage, "timeout": 60}])
        if graded.outcome is not Outcome.SUCCEEDED or graded.stdout.split()[-1:] != ["42"]:
            raise RuntimeError(f"an honest job ended as {graded.outcome}: {graded.reason}")
        return time.perf_counter() - begun

    async def beside(self, case: Case) -> float:
        """Return the seconds that an honest job takes while a hostile one runs again and again."""
        job = asyncio.create_task(self.honest())
        while not job.done():
            await self._run(case.stages(HOSTILE, self.canary))
        return await job

    async def slowdown(self, case: Case) -> float:
        """Return an honest job's time beside a hostile one, divided by its time alone. Repeat a slow measurement."""
        least = float("inf")
        for _ in range(TRIES):
            before, beside, after = await self.honest(), await self.beside(case), await self.honest()
            least = min(least, beside / max(before, after))
            if least <= SLOWER:
                break
        return least

    async def _run(self, stages: list[dict[str, Any]]) -> Graded:
        name = f"bench-hostile-{next(self._numbers)}"
        with self._users.taken() as user:
            labels = Labels("bench", "this-life", f"job-{name}", name, stage=0, user=user)
            return await grade(stages, containers=self.containers, directories=self.directories, labels=labels)


@asynccontextmanager
async def _bench(runtime: str | None, host: str, directory: Path) -> AsyncIterator[Bench]:
    work, canary = directory / f"work-{runtime}", directory / "canary"
    work.mkdir()
    canary.write_text('{"score": 1}')
    runtimes = OciContainers if runtime == NAME else DockerContainers
    limits = replace(LIMITS, runtime=runtime)
    async with runtimes.connect(slots=4, limits=limits, docker_host=host, work_dir=work) as containers:
        with closing(Directories(work, SIZE)) as directories:
            yield Bench(containers, directories, canary, count(), Users())


async def measure_neighbours(plan: Plan, results: Results, directory: Path) -> None:
    """An honest job beside hostile jobs of the tests' corpus, on each runtime."""
    cases = load()
    async with _engine(directory) as host:
        for name, runtime in RUNTIMES.items():
            chosen = [case for case in cases if runtime != "runsc" or case.runsc][:: plan.hostile_step]
            try:
                await _measure_beside(name, runtime, chosen, results, host, directory)
            except Exception as error:  # noqa: BLE001 - an unavailable runtime is a finding
                results.fail(name, f"{type(error).__name__}: {error}")
    results.notes["neighbours"] = (
        f"every {plan.hostile_step}th hostile submission of the tests' corpus, again and again while one honest job "
        f"computes; a job that takes more than {SLOWER} times as long as alone is measured {TRIES} times at most, and "
        "the least counts"
    )


async def _measure_beside(
    name: str, runtime: str | None, cases: list[Case], results: Results, host: str, directory: Path
) -> None:
    async with _bench(runtime, host, directory) as bench:
        for case in cases:
            results.add(name, {BESIDE: await bench.slowdown(case)})


async def measure_class(plan: Plan, results: Results, directory: Path) -> None:
    """A class of which half is hostile, compared with the time that its halves need alone."""
    async with _engine(directory) as host, ground(directory) as below, Site.open(below) as site, AsyncExitStack() as on:
        for name in HOSTS:
            grader = site.grader(name, runtime="runc", slots=SLOTS, docker_host=host, flags=FLAGS)
            await on.enter_async_context(grader)
        await site.register("mp1", pipeline(HOSTILE), env={"SECRET": SECRET})
        measure = partial(_of_its_halves, site, plan.hostile_students)
        await interleave({DOCKER: measure}, rounds=plan.class_rounds, into=results, warm_up=False)
    results.notes["hostile class"] = (
        f"{plan.hostile_students} students on {len(HOSTS)} graders of {SLOTS} slots, every other one hostile; the "
        "honest half alone takes its time, and a hostile job the time that it takes alone, or until its time limit"
    )


async def _of_its_halves(site: Site, students: int) -> Mapping[Figure, float]:
    kinds = mixed(students)
    alone = await _graded(site, [kind for kind in kinds if kind == "honest"])
    singly = {kind: await _seconds_alone(site, kind) for kind in ATTACKS}
    needed = {kind: singly["daemon"] + LIMIT if ATTACKS[kind].is_endless else singly[kind] for kind in ATTACKS}
    hostile_half = sum(needed[kind] for kind in kinds if kind != "honest") / (len(HOSTS) * SLOTS)
    return {MIXED: await _graded(site, kinds) / (alone + hostile_half)}


async def _graded(site: Site, kinds: list[str]) -> float:
    """Return the seconds that a class takes."""
    submitted = await site.submit("mp1", roster(kinds))
    await site.over(submitted)
    return time.perf_counter() - submitted.begun


async def _seconds_alone(site: Site, kind: str) -> float:
    """Return the seconds that a job takes on its grader when it is the only one."""
    submitted = await site.submit("mp1", roster([kind]))
    await site.over(submitted)
    (job,) = (await _get(site, submitted))["items"]
    described = (await site.http.get(f"/api/v2/courses/{COURSE}/jobs/{job['id']}")).raise_for_status().json()
    return float(described["seconds"])


async def _get(site: Site, submitted: Submitted) -> dict[str, Any]:
    answer = await site.http.get(f"/api/v2/courses/{COURSE}/runs/{submitted.run_id}/jobs")
    page: dict[str, Any] = answer.raise_for_status().json()
    return page

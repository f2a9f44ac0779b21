"""A run of many students: accepted, read, watched, and cancelled, with single submissions beside it."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx2
from bson import ObjectId

from benchmarks.plan import Plan
from benchmarks.rounds import interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, LOGIN, NOTHING, RUN_TIMEOUT, Site, Submitted, ground

ACCEPTED = Figure("a large run: until the answer", "s")
QUEUED = Figure("a large run: from the answer until all its jobs are queued", "s")
READ = Figure("a large run: all its jobs in pages", "s")
OPENED = Figure("a large run: until a stream opens", "s")
CANCELLED = Figure("a large run: from the order to the last outcome", "s")
BESIDE = Figure("a single submission beside a large run: until its start, at most", "s")

REFUSED = Figure("single submissions beside a large run that were refused at first", "")

SLEEPING = [{"image": "none", "entrypoint": ["sleep", "0.2"]}]
SLOTS = 4
ENVIRONMENT = 1000  # bytes of a student's
PAGE = 200
PAUSE = 0.25  # seconds between two single submissions


def students(number: int) -> str:
    """Return the name of a number of students, as a contender."""
    return f"{number:,} students"


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """A run of many students, from its submission to its cancellation."""
    async with ground(directory) as below, Site.open(below) as site, site.noop_graders("grader", slots=SLOTS):
        await site.register("long", SLEEPING)
        await site.register("noop", NOTHING)
        sizes = {students(number): partial(_large, site, number) for number in plan.large_runs}
        await interleave(sizes, rounds=1, into=results, warm_up=False)
    results.notes["large runs"] = f"of {ENVIRONMENT:,} bytes per student, on {SLOTS} slots, in jobs of 0.2 s"


async def _large(site: Site, number: int) -> Mapping[Figure, float]:
    roster = [{"STUDENT_ID": f"s{each}", "FILE": "x" * ENVIRONMENT} for each in range(number)]
    taken: dict[Figure, float] = {}

    @contextlib.contextmanager
    def step(name: str, figure: Figure) -> Iterator[None]:
        """Measure a step: its time, its CPU, and the slowest of the single submissions that are made meanwhile."""
        singles.step, before, begun = name, site.cpu(), time.perf_counter()
        yield
        taken[figure] = time.perf_counter() - begun
        spent = {role: seconds - before[role] for role, seconds in site.cpu().items()}
        taken.update({Figure(f"a large run: CPU of {role}, {name}", "s"): each for role, each in spent.items()})

    async with _singles(site) as singles:
        with step("accepting", ACCEPTED):
            submitted = await site.submit("long", roster)
        with step("storing and publishing jobs", QUEUED):
            await _queued(site, submitted)
        with step("reading", READ):
            jobs = await _pages(site, submitted)
        assert len(jobs) == number  # noqa: S101 - every student has a job
        with step("opening a stream", OPENED):
            async with site.http.stream("GET", f"/api/v1/stream/{COURSE}/{jobs[-1]}", headers=LOGIN) as answer:
                answer.raise_for_status()
        with step("cancelling", CANCELLED):
            answer = await site.http.post(f"/api/v2/courses/{COURSE}/runs/{submitted.run_id}/cancel")
            answer.raise_for_status()
            await site.over(submitted)
    slowest = {Figure(f"{BESIDE.name}, {name}", "s"): max(starts) for name, starts in singles.starts.items()}
    return {**taken, BESIDE: max(slowest.values()), **slowest, REFUSED: singles.refused}


async def _queued(site: Site, submitted: Submitted) -> None:
    """Return once all jobs of a run are published."""
    runs, done = site.database["grading_run"], {"_id": ObjectId(submitted.run_id), "publish_at": None}

    async def are_published() -> bool:
        return await runs.find_one(done, {"_id": 1}) is not None

    await site.children["ingest"].until(are_published, within=RUN_TIMEOUT)


async def _pages(site: Site, submitted: Submitted) -> list[str]:
    """Read all pages of a run's jobs, and return their ids."""
    path, found, after = f"/api/v2/courses/{COURSE}/runs/{submitted.run_id}/jobs", [], None
    while True:
        query = {"limit": str(PAGE)} | ({"after": after} if after else {})
        page = (await site.http.get(path, params=query)).raise_for_status().json()
        found += [job["id"] for job in page["items"]]
        after = page["next"]
        if after is None:
            return found


@dataclass(slots=True)
class Singles:
    """Single submissions: the seconds from each to its start, by the present step, and how many were refused first."""

    step: str = ""
    starts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: int = 0
    waiting_since: datetime | None = None


@contextlib.asynccontextmanager
async def _singles(site: Site) -> AsyncIterator[Singles]:
    """Submit runs of one student one after another until the end of the block."""
    singles, stopping = Singles(), asyncio.Event()

    async def submit() -> None:
        while not stopping.is_set():
            begun, step = datetime.now(UTC), singles.step
            try:
                single = await site.submit("noop", 1)
            except httpx2.HTTPStatusError:  # the store is slow: the next try counts from the first one
                singles.refused += 1
                singles.waiting_since = singles.waiting_since or begun
                await asyncio.sleep(PAUSE)
                continue
            begun, singles.waiting_since = singles.waiting_since or begun, None
            await site.ended(single)
            singles.starts[step].append((await site.started_at(single) - begun).total_seconds())
            await asyncio.sleep(PAUSE)

    submitting = asyncio.create_task(submit())
    try:
        yield singles
    finally:
        stopping.set()
        await submitting

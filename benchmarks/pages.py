"""Pages: their first load, answers while a run goes on, watchers of a run, and a class that reloads at a deadline."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path

import httpx2

from benchmarks.machine import cpu_seconds
from benchmarks.plan import Plan
from benchmarks.polls import Answers
from benchmarks.rounds import interleave
from benchmarks.runtimes import FailedError
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, START, TOKEN, Site, ground

BYTES = Figure("first load of a page, compressed", "kB")
REQUESTS = Figure("first load of a page: requests", "")
SHOWN = Figure("a page of a run that goes on: the answer, p95", "ms")
SHOWN_CPU = Figure("a page of a run that goes on: CPU of ingest for each", "ms")
WATCHING = Figure("a run that goes on: CPU of ingest and store, of a core", "%")
EVENTS = Figure("a run that goes on: events of a watcher", "1/s")
STORM = Figure("a class reloads within 10 s while grading goes on: the answer, p99", "ms")
STORM_REFUSED = Figure("a class reloads within 10 s while grading goes on: refused", "answers")
STORM_CPU = Figure("a class reloads within 10 s while grading goes on: CPU of ingest for each", "ms")

SLOTS, SECOND = 5, [{"image": "none", "entrypoint": ["sleep", "1"]}]  # 5 starts and 5 ends in a second
STORM_SECONDS = 10.0
AT_ONCE = 8  # sign-ins at a time
OWN = {"Sec-Fetch-Site": "same-origin"}
RUN = "a run"
LOADED = ("a course", RUN, "a job", "an assignment", "grades", "a student")
SHOWN_TIMES = 140
FILTERS = ("", "?page=2", "?page=20", "?sort=outcome", "?find=s1", "?outcome=queued", "?sort=grader&page=3")
_STATIC = re.compile(r'(?:href|src)="(/ui/static/[^"]+)"')


def watchers(number: int) -> str:
    """Return the name of a number of watchers, as a contender."""
    return f"{number} watchers"


@dataclass(slots=True)
class Class:
    """A course with a run that goes on, its staff, and students with sessions."""

    site: Site
    run: str
    jobs: Mapping[str, str]
    staff: httpx2.AsyncClient
    students: Mapping[str, str]  # the cookie of each

    @property
    def page(self) -> str:
        """The address of the run."""
        return f"/ui/c/{COURSE}/r/{self.run}"


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """The pages of a class while its run goes on: first loads, answers, watchers, and a storm of reloads."""
    async with (
        ground(directory) as below,
        Site.open(below) as site,
        _class(site, plan) as group,
        site.noop_graders("grader", slots=SLOTS),
    ):
        numbers = {watchers(number): partial(_watch, group, plan, number) for number in (0, plan.watchers)}
        await interleave(numbers, rounds=plan.page_rounds, into=results, warm_up=False)
        await interleave({RUN: partial(_show, group)}, rounds=plan.page_rounds, into=results)
        await interleave({RUN: partial(_storm, group)}, rounds=plan.page_rounds, into=results, warm_up=False)
        loads = {name: partial(_load, group, address) for name, address in _addresses(group).items()}
        await interleave(loads, rounds=1, into=results, warm_up=False)
    results.notes["pages"] = (
        f"a run of {plan.run:,} students with 10 changes a second, on {SLOTS} slots; pages with all filters in turn; "
        f"{plan.reloads} students reload the page of their assignment or of their result, one each "
        f"{1000 * STORM_SECONDS / plan.reloads:.0f} ms, answered or not"
    )


@contextlib.asynccontextmanager
async def _class(site: Site, plan: Plan) -> AsyncIterator[Class]:
    names = [f"s{number}" for number in range(plan.run)]
    await site.register("noop", SECOND)
    api = f"/api/v2/courses/{COURSE}"
    entries = [{"student": name, "env": {"STUDENT_ID": name}} for name in names]
    (await site.http.put(f"{api}/assignments/noop/roster", json={"students": entries})).raise_for_status()
    made = await site.http.post(f"{api}/assignments/noop/runs", json={"students": "all"})
    run = made.raise_for_status().json()["id"]
    jobs = await _jobs(site, f"{api}/runs/{run}/jobs", plan.run)
    async with httpx2.AsyncClient(base_url=site.http.base_url, timeout=120) as staff:
        await _sign_in(staff, TOKEN)
        cookies: dict[str, str] = {}
        waiting = iter(names[: plan.reloads])

        async def enter() -> None:
            for name in waiting:
                cookies[name] = await _entered(site, f"{api}/student-tokens", name)

        async with asyncio.TaskGroup() as entering:
            for _ in range(AT_ONCE):
                entering.create_task(enter())
        yield Class(site, run, jobs, staff, cookies)


async def _jobs(site: Site, path: str, number: int) -> dict[str, str]:
    found: dict[str, str] = {}
    async with asyncio.timeout(START):
        while len(found) < number:
            after = ""
            while True:
                page = (await site.http.get(f"{path}?limit=500{after}")).raise_for_status().json()
                found |= {job["student"]: job["id"] for job in page["items"]}
                if not page["next"]:
                    break
                after = f"&after={page['next']}"
    return found


async def _entered(site: Site, tokens: str, name: str) -> str:
    made = await site.http.post(tokens, json={"student": name})
    async with httpx2.AsyncClient(base_url=site.http.base_url, timeout=120) as visitor:
        await _sign_in(visitor, made.raise_for_status().json()["token"])
        return _cookie(visitor)


async def _sign_in(visitor: httpx2.AsyncClient, token: str) -> None:
    answer = await visitor.post("/ui/sign-in", data={"token": token}, headers=OWN)
    if answer.status_code != httpx2.codes.SEE_OTHER:
        answer.raise_for_status()
        raise FailedError("the token is not accepted")


def _cookie(visitor: httpx2.AsyncClient) -> str:
    return "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())


def _addresses(group: Class) -> Mapping[str, str]:
    course, assignment = f"/ui/c/{COURSE}", f"/ui/c/{COURSE}/a/noop"
    job, book, student = f"/ui/j/{group.jobs['s0']}", f"{assignment}/grades", f"{course}/s/s0"
    return dict(zip(LOADED, (course, group.page, job, assignment, book, student), strict=True))


async def _load(group: Class, address: str) -> Mapping[Figure, float]:
    """Load a page and all that it names, as a browser does that has nothing of it yet."""
    sizes: list[int] = []
    page = await _sized(group.staff, address, sizes)
    for static in dict.fromkeys(_STATIC.findall(page)):
        await _sized(group.staff, static, sizes)
    return {BYTES: sum(sizes) / 1000, REQUESTS: len(sizes) + ("data-live" in page)}


async def _sized(visitor: httpx2.AsyncClient, address: str, sizes: list[int]) -> str:
    async with visitor.stream("GET", address, headers={"Accept-Encoding": "gzip"}) as answer:
        text = (await answer.aread()).decode()
        answer.raise_for_status()
        sizes.append(answer.num_bytes_downloaded)
    return text


async def _show(group: Class) -> Mapping[Figure, float]:
    ingest, shown = group.site.processes["ingest"], Answers()
    before = cpu_seconds(ingest)
    for query in islice(cycle(FILTERS), SHOWN_TIMES):
        begun = time.perf_counter()
        (await group.staff.get(f"{group.page}{query}")).raise_for_status()
        shown.seconds.append(time.perf_counter() - begun)
        await asyncio.sleep(0.05)
    return {SHOWN: _slow(shown.seconds, 0.95), SHOWN_CPU: 1000 * (cpu_seconds(ingest) - before) / SHOWN_TIMES}


def _slow(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def _watch(group: Class, plan: Plan, number: int) -> Mapping[Figure, float]:
    """Observe a run with so many watchers, whose streams are open before."""
    events = count()
    async with asyncio.TaskGroup() as watching:
        opened = [asyncio.Event() for _ in range(number)]
        tasks: list[asyncio.Task[None]] = []
        for first in range(0, number, AT_ONCE):
            some = opened[first : first + AT_ONCE]
            tasks += [watching.create_task(_follow(group, event, events)) for event in some]
            await asyncio.gather(*(event.wait() for event in some))
        await asyncio.sleep(2)  # the first events, with the whole page
        before, seen, begun = group.site.cpu(), next(events), time.perf_counter()
        await asyncio.sleep(plan.watching)
        seconds, after, more = time.perf_counter() - begun, group.site.cpu(), next(events)
        for task in tasks:
            task.cancel()
    spent = sum(after[role] - before[role] for role in ("ingest", "store"))
    taken = {WATCHING: 100 * spent / seconds}
    return taken | ({EVENTS: (more - seen) / number / seconds} if number else {})


async def _follow(group: Class, opened: asyncio.Event, events: "count[int]") -> None:
    """Read the stream of the run; the client costs as little as it can."""
    where = group.site.http.base_url
    reader, writer = await asyncio.open_connection(where.host, where.port)
    try:
        head = f"GET {group.page}/live HTTP/1.1\r\nHost: {where.host}:{where.port}\r\nCookie: {_cookie(group.staff)}"
        writer.write(f"{head}\r\n\r\n".encode())
        if b" 200 " not in (status := await reader.readline()):
            raise FailedError(f"a stream was answered with {status.decode()}")
        opened.set()
        async for line in reader:
            if line.startswith(b"event: parts"):
                next(events)
        raise FailedError("a stream has ended")
    finally:
        writer.close()


async def _storm(group: Class) -> Mapping[Figure, float]:
    """Let each student reload a page, at a time of its own."""
    ingest, answers = group.site.processes["ingest"], Answers()
    before, begun = cpu_seconds(ingest), time.perf_counter()
    limits = httpx2.Limits(max_connections=None)
    async with (
        httpx2.AsyncClient(base_url=group.site.http.base_url, timeout=120, limits=limits) as http,
        asyncio.TaskGroup() as storm,
    ):
        for number, (name, cookie) in enumerate(group.students.items()):
            await asyncio.sleep(begun + number * STORM_SECONDS / len(group.students) - time.perf_counter())
            address = f"/ui/j/{group.jobs[name]}" if number % 2 else "/ui/me/a/noop"
            storm.create_task(_reload(http, address, cookie, answers))
    spent = cpu_seconds(ingest) - before
    return {STORM: answers.slow, STORM_REFUSED: answers.refused, STORM_CPU: 1000 * spent / answers.number}


async def _reload(http: httpx2.AsyncClient, address: str, cookie: str, answers: Answers) -> None:
    begun = time.perf_counter()
    answer = await http.get(address, headers={"Cookie": cookie, "Accept-Encoding": "gzip"})
    if answer.status_code == httpx2.codes.OK:
        answers.seconds.append(time.perf_counter() - begun)
    else:
        answers.refused += 1

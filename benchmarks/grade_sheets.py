"""Grades as files: exports of a large class, and merges into the file of a learning management system, over HTTP."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.grades import ASSIGNMENT, of_class, store_class, student_of
from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, Site, ground

WALL = Figure("grades as files: until the whole answer", "s")
COST = Figure("grades as files: CPU of the API and the store", "s")
EXPORT, DRAFT, MERGE = "export, published", "export, draft", "merge into a file of Canvas, published"

BASE = f"/api/v2/courses/{COURSE}/assignments/{ASSIGNMENT}"
ROLES = ("ingest", "store")
OTHERS = 60  # columns of other assignments in the file of Canvas


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """Files of the grades of a class in which every student has several submissions."""
    count, submissions = plan.graded
    async with ground(directory) as below, Site.open(below) as site:
        students = [student_of(number) for number in range(count)]
        await store_class(site, count, submissions)
        (await site.http.post(f"{BASE}/grades/publish", json={"based_on": 0})).raise_for_status()
        asked: dict[str, Callable[[], Awaitable[bytes]]] = {
            EXPORT: partial(_export, site, count, "published"),
            DRAFT: partial(_export, site, count, "draft"),
            MERGE: partial(_merge, site, students),
        }
        contenders: dict[str, Measure] = {name: partial(_cost, site, ask) for name, ask in asked.items()}
        await interleave(contenders, rounds=plan.rounds, into=results)
    results.notes["grades as files"] = f"{of_class(count, submissions)}; the file has {OTHERS} other assignments"


async def _export(site: Site, students: int, version: str) -> bytes:
    answer = await site.http.get(f"{BASE}/grades/export", params={"version": version})
    content = answer.raise_for_status().content
    if content.count(b",graded,") != students:
        raise RuntimeError("not every student of the class has a grade")
    return content


async def _merge(site: Site, students: Sequence[str]) -> bytes:
    names = "".join(f",Lab {number} ({number})" for number in range(OTHERS))
    cells = ",9.50" * OTHERS
    rows = "".join(f'"Student, {name}",{number},0{name},{name},A,{cells}\n' for number, name in enumerate(students))
    data = f"Student,ID,SIS User ID,SIS Login ID,Section,{ASSIGNMENT} (1){names}\n{rows}".encode()
    answer = await site.http.post(f"{BASE}/grades/merge", params={"column": ASSIGNMENT}, content=data)
    if answer.headers.get("broadway-complete") != "true":
        raise RuntimeError(f"not every student of the class is in the file: {answer.text[:200]}")
    return answer.raise_for_status().content


async def _cost(site: Site, ask: Callable[[], Awaitable[bytes]]) -> Mapping[Figure, float]:
    before, begun = site.cpu(), time.perf_counter()
    await ask()
    wall, after = time.perf_counter() - begun, site.cpu()
    return {WALL: wall, COST: sum(after[role] - before[role] for role in ROLES)}

"""Grades as files: exports of a large class, and merges into the file of a learning management system, over HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx2
from bson import ObjectId

from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, NOTHING, Site, ground

WALL = Figure("grades as files: until the whole answer", "s")
COST = Figure("grades as files: CPU of the API and the store", "s")
EXPORT, DRAFT, MERGE = "export, published", "export, draft", "merge into a file of Canvas, published"

LAB = f"/api/v2/courses/{COURSE}/assignments/lab"
ROLES = ("ingest", "store")
OTHERS = 60  # columns of other assignments in the file of Canvas
AT_A_TIME = 500
GRADED_WITHIN = 60.0  # seconds

Document = dict[str, Any]


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """Files of the grades of a class in which every student has several submissions."""
    async with ground(directory) as below, Site.open(below) as site:
        students = [f"s{number:05}" for number in range(plan.graded_students)]
        await _prepare(site, students, plan.graded_submissions)
        asked: dict[str, Callable[[], Awaitable[bytes]]] = {
            EXPORT: partial(_export, site, "published"),
            DRAFT: partial(_export, site, "draft"),
            MERGE: partial(_merge, site, students),
        }
        contenders: dict[str, Measure] = {name: partial(_cost, site, ask) for name, ask in asked.items()}
        await interleave(contenders, rounds=plan.rounds, into=results)
    count = len(students) * plan.graded_submissions
    results.notes["grades as files"] = f"{len(students):,} students with {count:,} submissions"


async def _prepare(site: Site, students: Sequence[str], each: int) -> None:
    """Store a class with so many graded submissions of each student, and publish its grades."""
    await site.register("lab", NOTHING)
    roster = [{"student": student, "env": {"sis_id": f"0{student}"}} for student in students]
    (await site.http.put(f"{LAB}/roster", json={"students": roster})).raise_for_status()
    (await site.http.put(f"{LAB}/settings", json={"points": 10})).raise_for_status()
    async with site.noop_graders("grader", slots=1):
        submission = await _graded(site, students[0])
    await _copy(site, submission, students, each)
    (await site.http.post(f"{LAB}/grades/publish", json={"based_on": 0})).raise_for_status()
    lines = (await _export(site, "draft")).splitlines()
    if sum(b",graded," in line for line in lines) != len(students):
        raise RuntimeError("not every student of the class has a grade")


async def _graded(site: Site, student: str) -> Document:
    """Hand in a file, and return the submission once it is graded."""
    sent = await site.http.post(f"{LAB}/submissions", params={"student": student}, files={"files": ("a.txt", b"1")})
    path = f"/api/v2/courses/{COURSE}/submissions/{sent.raise_for_status().json()['id']}"
    async with asyncio.timeout(GRADED_WITHIN):
        while True:
            found: Document = (await site.http.get(path)).raise_for_status().json()
            if found["job"] and found["job"]["outcome"]:
                return found
            await asyncio.sleep(0.1)


async def _copy(site: Site, submission: Document, students: Sequence[str], each: int) -> None:
    """Give every student so many copies of a graded submission, with its job and its outcome."""
    job, student = submission["job"]["id"], submission["student"]
    originals = {
        "submission": await site.database["submission"].find_one({"_id": submission["id"]}),
        "grading_job": await site.database["grading_job"].find_one({"_id": ObjectId(job)}),
        "job_outcome": await site.database["job_outcome"].find_one({"job": job})
        or await site.database["job_outcome"].find_one({"_id": {"$regex": f"^{job}"}}),
    }
    copies = [name for name in students for _ in range(each)][1:]
    for start in range(0, len(copies), AT_A_TIME):
        names = [
            {submission["id"]: token_hex(len(submission["id"]) // 2), job: str(ObjectId()), student: name}
            for name in copies[start : start + AT_A_TIME]
        ]
        for collection, document in originals.items():
            await site.database[collection].insert_many([_renamed(document, new) for new in names])


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a document with other ids and another student."""
    if isinstance(value, dict):
        return {key: _renamed(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    if isinstance(value, ObjectId):
        return ObjectId(names.get(str(value), str(value)))
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
    return value


async def _export(site: Site, version: str) -> bytes:
    answer = await site.http.get(f"{LAB}/grades/export", params={"version": version})
    return answer.raise_for_status().content


async def _merge(site: Site, students: Sequence[str]) -> bytes:
    others = "".join(f",Lab {number} ({number})" for number in range(OTHERS))
    cells = ",9.50" * OTHERS
    rows = "".join(f'"Student, {name}",{number},0{name},{name},A,{cells}\n' for number, name in enumerate(students))
    data = f"Student,ID,SIS User ID,SIS Login ID,Section,lab (1){others}\n{rows}".encode()

    async def body() -> AsyncIterator[bytes]:
        yield data

    answer: httpx2.Response = await site.http.post(f"{LAB}/grades/merge", params={"column": "lab"}, content=body())
    return answer.raise_for_status().content


async def _cost(site: Site, ask: Callable[[], Awaitable[bytes]]) -> Mapping[Figure, float]:
    before, begun = site.cpu(), time.perf_counter()
    await ask()
    wall, after = time.perf_counter() - begun, site.cpu()
    return {WALL: wall, COST: sum(after[role] - before[role] for role in ROLES)}

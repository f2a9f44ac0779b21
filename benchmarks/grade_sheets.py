"""Grades as files: exports of a large class, and merges into the file of a learning management system, over HTTP."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
from bson import ObjectId
from classes import Class, HandIn

from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, Site, ground
from broadway.domain.roster import RosterEntry
from broadway.mongo.store import Store

WALL = Figure("grades as files: until the whole answer", "s")
COST = Figure("grades as files: CPU of the API and the store", "s")
EXPORT, DRAFT, MERGE = "export, published", "export, draft", "merge into a file of Canvas, published"

LAB = f"/api/v2/courses/{COURSE}/assignments/lab"
ROLES = ("ingest", "store")
OTHERS = 60  # columns of other assignments in the file of Canvas
AT_A_TIME = 200  # students
_ID = re.compile(r"\b[0-9a-f]{24}\b")
BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


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
    entries = [RosterEntry(student=student, env={"sis_id": f"0{student}"}) for student in students]
    first = [HandIn(students[0], BEGAN + timedelta(minutes=number), number=number) for number in range(1, each + 1)]
    async with Store.connect(site.ground.store.dsn) as store:
        group = Class(store, COURSE, "lab")
        await group.prepare(entries, {"points": 10})
        await group.hand_in(*first)
    await _copy(site, students)
    (await site.http.post(f"{LAB}/grades/publish", json={"based_on": 0})).raise_for_status()
    lines = (await _export(site, "draft")).splitlines()
    if sum(b",graded," in line for line in lines) != len(students):
        raise RuntimeError("not every student of the class has a grade")


async def _copy(site: Site, students: Sequence[str]) -> None:
    """Give every student copies of the first one's submissions, with their jobs and outcomes."""
    first, *others = students
    for name in ("submission", "grading_job", "job_outcome"):
        originals = await site.database[name].find({"assignment": "lab"}).to_list()
        if not originals:
            raise RuntimeError(f"{name}: the class has no document there")
        for start in range(0, len(others), AT_A_TIME):
            copies = [
                _renamed(document, {first: student})
                for student in others[start : start + AT_A_TIME]
                for document in originals
            ]
            await site.database[name].insert_many(copies)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a document of another student, with ids that follow from the student's name and its own ids."""
    if isinstance(value, dict):
        return {key: _renamed(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    if isinstance(value, ObjectId):
        return ObjectId(_other_id(str(value), names))
    if isinstance(value, str):
        return _ID.sub(lambda found: _other_id(found[0], names), names.get(value, value))
    return value


def _other_id(identity: str, names: Mapping[str, str]) -> str:
    return sha256(f"{identity}{sorted(names.values())}".encode()).hexdigest()[:24]


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

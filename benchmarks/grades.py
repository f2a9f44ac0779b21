"""A class of many students and submissions: its draft, its publication and one student's grade, over HTTP."""

import itertools
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, NOTHING, Site, ground

FIRST = Figure("grades: a draft that the process reads first", "s")
AGAIN = Figure("grades: a draft that the process has read before", "s")
PUBLISHED = Figure("grades: from the order to publish until the answer", "s")
BOOK = Figure("grades: the published grades, in a page", "s")
ONE = Figure("grades: the published grade of a student", "s")
READERS = ("ingest", "store")  # roles that a read costs

ASSIGNMENT = "mp1"
DUE = datetime(2026, 3, 1, tzinfo=UTC)
POLICY: dict[str, Any] = {
    "deadline": {"due": "2026-03-01T00:00", "credit": [{"until": "2026-03-09T00:00", "percent": 50}]},
    "late_days": {"per_assignment": 2, "per_course": 5},
    "counts": "best",
}
AT_A_TIME = 1000
PAGE = 500

Document = dict[str, Any]


def of_class(students: int, submissions: int) -> str:
    """Return the name of a class, as a contender."""
    return f"{students:,} students, {submissions:,} submissions"


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """A class whose submissions are all graded, with late days and the best one that counts."""
    students, submissions = plan.graded
    async with ground(directory) as below, Site.open(below) as site:
        await store_class(site, students, submissions)
        contenders: dict[str, Measure] = {of_class(students, submissions): partial(_all, site)}
        await interleave(contenders, rounds=1, into=results, warm_up=False)
    results.notes["grades"] = "a page has 500 students, and its draft is that of the whole class"


async def store_class(site: Site, students: int, submissions: int) -> None:
    """Store an assignment with graded submissions, the same number of each student."""
    await site.register(ASSIGNMENT, NOTHING)
    roster = [{"student": student_of(each), "env": {"sis_id": f"0{student_of(each)}"}} for each in range(students)]
    for name, body in (("settings", {"points": 10, "policy": POLICY}), ("roster", {"students": roster})):
        path = f"/api/v2/courses/{COURSE}/assignments/{ASSIGNMENT}/{name}"
        (await site.http.put(path, json=body)).raise_for_status()
    await _fill(site, "submission", (_submission(number, students) for number in range(submissions)))
    await _fill(site, "work_result", (result_of(number, students) for number in range(submissions)))


async def _all(site: Site) -> Mapping[Figure, float]:
    base = f"/api/v2/courses/{COURSE}/assignments/{ASSIGNMENT}/grades"
    page = f"{base}?limit={PAGE}"
    taken = {**await _timed(site, FIRST, "GET", page), **await _timed(site, AGAIN, "GET", page)}
    taken |= await _timed(site, PUBLISHED, "POST", f"{base}/publish", json={"based_on": 0})
    taken |= await _timed(site, BOOK, "GET", f"{page}&version=published")
    student = f"/api/v2/courses/{COURSE}/students/{student_of(0)}/assignments/{ASSIGNMENT}/grade?version=published"
    return taken | await _timed(site, ONE, "GET", student)


async def _timed(site: Site, figure: Figure, method: str, path: str, **options: Any) -> dict[Figure, float]:
    before, begun = site.cpu(), time.perf_counter()
    (await site.http.request(method, path, **options)).raise_for_status()
    seconds = time.perf_counter() - begun
    spent = site.cpu()
    costs = {Figure(f"{figure.name}: CPU of {role}", "s"): spent[role] - before[role] for role in READERS}
    return {figure: seconds, **costs}


async def _fill(site: Site, collection: str, documents: Iterator[Document]) -> None:
    while some := list(itertools.islice(documents, AT_A_TIME)):
        await site.database[collection].insert_many(some)


def student_of(number: int) -> str:
    return f"s{number:05}"


def _work(number: int, students: int) -> tuple[str, str, datetime]:
    """Return the id, the student and the time of a submission; the last of each student is late."""
    return f"{number:024x}", student_of(number % students), DUE + timedelta(days=1 - number // students, seconds=number)


def _submission(number: int, students: int) -> Document:
    identity, student, at = _work(number, students)
    files = [{"path": f"src/{each}.c", "sha256": f"{number:064x}", "size": 1000, "mode": 420} for each in range(3)]
    about = {"_id": identity, "course": COURSE, "assignment": ASSIGNMENT, "student": student, "at": at}
    size = {"count": 3, "size": 3000, "files": files}
    return {**about, "by": "", "digest": f"{number:064x}", "archive": "", **size, "graded": True}


def result_of(number: int, students: int) -> Document:
    """Return the stored result of a submission."""
    identity, student, at = _work(number, students)
    return {
        "_id": f"{number + 2**40:024x}:1",
        "course": COURSE,
        "assignment": ASSIGNMENT,
        "student": student,
        "work": identity,
        "at": at,
        "config": "c" * 64,
        "regrade": "",
        "outcome": "succeeded",
        "finished_at": at + timedelta(seconds=30),
        "execution": f"{number + 2**41:024x}",
        "images": f"sha256:{'i' * 64}",
        "marks": ["gradescope", str(number % 11), "10", True],
    }

"""The difference that a regrade makes to a class of many students and submissions, over HTTP."""

import itertools
import time
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.plan import Plan
from benchmarks.rounds import Measure, interleave
from benchmarks.samples import Figure, Results
from benchmarks.site import COURSE, NOTHING, Site, ground
from broadway.domain.job import Phase
from broadway.domain.keys_of_tests import Keys
from broadway.domain.regrade import PART, Item, Part, PartKind, Regrade, RegradeOrder, Seen, run_of
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.domain.report import Report, ReportedTest, Source, Status, Text
from broadway.domain.run import plan_jobs
from broadway.mongo.collection import object_id
from broadway.mongo.job_documents import planned_document
from broadway.mongo.regrades import Regrades

SHOWN = Figure("regrade: the difference of a class", "s")
ROWS = Figure("regrade: a page of students", "s")
NEXT = Figure("regrade: the next page of students", "s")
READERS = ("ingest", "store")  # roles that a read costs
ASSIGNMENT, REGRADE = "mp1", "f" * 24
TESTS = 20  # of a report
PAGE = 100
AT_A_TIME = 1000
RECEIVED = datetime(2026, 3, 1, tzinfo=UTC)
EVERY = 3  # every how many students one has another result

Document = dict[str, Any]


def of_class(students: int, submissions: int) -> str:
    """Return the name of a class, as a contender."""
    return f"{students:,} students, {submissions:,} submissions"


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """A class whose latest submissions were graded again, with reports on both sides."""
    students, submissions = plan.graded
    async with ground(directory) as below, Site.open(below) as site:
        await site.register(ASSIGNMENT, NOTHING)
        await _fill(site, "submission", (_submission(number, students) for number in range(submissions)))
        await _fill(site, "work_result", (_result(number, students) for number in range(submissions)))
        await _regrade(site, students, submissions)
        contenders: dict[str, Measure] = {of_class(students, submissions): partial(_all, site)}
        await interleave(contenders, rounds=1, into=results, warm_up=False)
    results.notes["regrades"] = f"each report has {TESTS} tests; a page has {PAGE} students"


async def _all(site: Site) -> Mapping[Figure, float]:
    base = f"/api/v2/courses/{COURSE}/regrades/{REGRADE}"
    await _timed(site, SHOWN, base)  # reads the works of the class for the first time
    shown = await _timed(site, SHOWN, base)
    first, second = f"{base}/rows?limit={PAGE}", f"{base}/rows?limit={PAGE}&after={PAGE}"
    return {**shown, **await _timed(site, ROWS, first), **await _timed(site, NEXT, second)}


async def _timed(site: Site, figure: Figure, path: str) -> dict[Figure, float]:
    before, begun = site.cpu(), time.perf_counter()
    (await site.http.get(path)).raise_for_status()
    seconds = time.perf_counter() - begun
    spent = site.cpu()
    costs = {Figure(f"{figure.name}: CPU of {role}", "s"): spent[role] - before[role] for role in READERS}
    return {figure: seconds, **costs}


async def _regrade(site: Site, students: int, submissions: int) -> None:
    """Store a regrade of each student's latest submission with its parts, jobs, results and reports."""
    order, config = RegradeOrder(Select.LATEST), {"student_pipeline": [{"image": "tests:2"}]}
    regrade = Regrade(
        *(REGRADE, COURSE, ASSIGNMENT, order, config, "d" * 64, RECEIVED),
        state=RegradeState.READY,
        plans=("p",),
        submissions=students,
    )
    latest = range(submissions - students, submissions)
    parts = [_part(number, list(latest[start : start + PART]), students) for number, start in _starts(students)]
    stored = Regrades(site.database["regrade"], site.database["regrade_part"])
    await stored.add(regrade)
    await stored.put_parts(parts)
    numbers = {f"{number:024x}": number for number in latest}
    jobs: list[Document] = []
    for part in parts:
        run = run_of(regrade, part, pool="default", now=RECEIVED)
        jobs += [
            _job(planned_document(each), numbers[item.submission], students)
            for each, item in zip(plan_jobs(run, Phase.STUDENTS, RECEIVED), part.items, strict=True)
        ]
    await _fill(site, "grading_job", iter(jobs))
    again = (_result(number, students, job=str(job["_id"])) for job, number in zip(jobs, latest, strict=True))
    await _fill(site, "work_result", again)
    old = (_report(_execution(number), is_fixed=False) for number in latest)
    new = (_report(_execution(number, again=True), is_fixed=number % EVERY == 0) for number in latest)
    await _fill(site, "job_report", itertools.chain(old, new))


def _starts(students: int) -> Iterator[tuple[int, int]]:
    return enumerate(range(0, students, PART))


def _part(number: int, works: list[int], students: int) -> Part:
    items = tuple(Item(f"{work:024x}", _env(work, students)) for work in works)
    seen = tuple(Seen(_student(work, students), f"{work:024x}", (f"{work:024x}",)) for work in works)
    return Part(REGRADE, "p", number, PartKind.NEW, items, seen)


def _env(number: int, students: int) -> dict[str, str]:
    at = _at(number).isoformat()
    return {
        "BROADWAY_SUBMISSION": f"{number:024x}",
        "BROADWAY_STUDENT": _student(number, students),
        "BROADWAY_SUBMITTED_AT": at,
    }


def _student(number: int, students: int) -> str:
    return f"s{number % students:05}"


def _at(number: int) -> datetime:
    return RECEIVED + timedelta(seconds=number)


def _execution(number: int, *, again: bool = False) -> str:
    return f"{number + (2**42 if again else 2**41):024x}"


def _submission(number: int, students: int) -> Document:
    about = {"_id": f"{number:024x}", "course": COURSE, "assignment": ASSIGNMENT, "student": _student(number, students)}
    size = {"digest": f"{number:064x}", "archive": "", "count": 0, "size": 0}
    return {**about, "at": _at(number), "by": "", **size, "graded": True}


def _result(number: int, students: int, *, job: str = "") -> Document:
    finished = _at(number) + timedelta(days=30 if job else 0, seconds=30)
    return {
        "_id": f"{job or f'{number + 2**40:024x}'}:1",
        "course": COURSE,
        "assignment": ASSIGNMENT,
        "student": _student(number, students),
        "work": f"{number:024x}",
        "at": _at(number),
        "config": ("d" if job else "c") * 64,
        "regrade": REGRADE if job else "",
        "outcome": "succeeded",
        "finished_at": finished,
        "execution": _execution(number, again=bool(job)),
        "images": f"sha256:{'i' * 64}",
        "marks": ["gradescope", str(10 if job and number % EVERY == 0 else 9), "10", True],
    }


def _job(document: Document, number: int, students: int) -> Document:
    attempt = {
        "execution_id": _execution(number, again=True),
        "grader_id": _student(number, students),
        "started_at": RECEIVED,
        "ended_at": RECEIVED,
        "outcome": "succeeded",
    }
    ended = {"state": "finished", "outcome": "succeeded", "success": True, "finished_at": RECEIVED}
    return {**document, **ended, "execution_id": attempt["execution_id"], "attempts": [attempt]}


def _report(execution: str, *, is_fixed: bool) -> Document:
    keys = Keys()
    names = [f"test_{number}" for number in range(TESTS)]
    tests = [
        ReportedTest(
            key=keys.of([], name),
            name=Text(body=name),
            status=Status.FAILED if name == names[0] and not is_fixed else Status.PASSED,
            output=Text(body="x" * 200),
        )
        for name in names
    ]
    packed = zlib.compress(Report(source=Source.GRADESCOPE, tests=tests).stored().encode(), 1)
    stage = {"stage": 0, "report": packed, "problem": "", "files": []}
    return {"_id": object_id(execution), "grading_job_id": "j", "stages": [stage]}


async def _fill(site: Site, collection: str, documents: Iterator[Document]) -> None:
    while some := list(itertools.islice(documents, AT_A_TIME)):
        await site.database[collection].insert_many(some)

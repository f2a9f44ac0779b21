"""Every read of v1 and v2 that concerns recorded documents, and the answers."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from harness import Client, token_of
from recordings.recording import Entry

V1, V2 = "/api/v1", "/api/v2"
CLUSTER, OPERATOR = "cluster-token", "operator-token"

COLLECTIONS = "artifacts|assignments|callbacks|dead-letters|deliveries|files|graders|hooks|students"
NAMED = re.compile(rf"/({COLLECTIONS})/[^/?]+")
ID = re.compile(r"\b[0-9a-f]{24}\b|\bcs\d+\b")

Held = Mapping[str, list[Entry]]  # documents by collection
OfCourse = tuple[str, str]  # a course and a path that its staff may read


async def ask(client: Client, documents: Iterable[Entry], *, most: int | None) -> list[Entry]:
    """Return the answers, byte for byte, to all questions, or to at most so many of each kind."""
    asked = questions(documents)
    return [await _ask(client, path, token) for path, token in (spread(asked, most) if most else asked)]


def spread(asked: Iterable[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """Return at most so many questions of each kind, from the first to the last."""
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, token in asked:
        kinds[kind(path)].append((path, token))
    return [each for found in kinds.values() for each in found[:: math.ceil(len(found) / most)]]


def kind(path: str) -> str:
    """Return a path without the names and ids in it."""
    return ID.sub("*", NAMED.sub(r"/\1/*", path))


async def _ask(client: Client, path: str, token: str) -> Entry:
    used = OPERATOR if token == CLUSTER else token  # at first, operators used the cluster token
    answer = await client.http.get(path, headers={"Authorization": f"Bearer {used}"})
    asked = {"path": path, "token": token}
    return {
        **asked,
        "status": answer.status_code,
        "type": answer.headers["content-type"],
        "body": answer.content.decode(),
    }


def questions(documents: Iterable[Entry]) -> Iterator[tuple[str, str]]:
    """Yield paths, and the token for each."""
    held: dict[str, list[Entry]] = defaultdict(list)
    for entry in documents:
        held[entry["collection"]].append(entry["document"])
    for part in _OF_COURSES:
        yield from ((path, token_of(course)) for course, path in part(held))
    yield from ((path, CLUSTER) for path in _of_operators(held))


def _of_courses(held: Held) -> Iterator[OfCourse]:
    for course in (document["_id"] for document in held["course"]):
        own = f"{V2}/courses/{course}"
        listed = (f"{own}/{part}" for part in ("assignments", "runs", "runs?limit=1", "runs?assignment=mp1", "hooks"))
        for path in (f"{V1}/queue/{course}/length", f"{V1}/worker/{course}/all", f"{V2}/courses", own, *listed):
            yield course, path


def _of_assignments(held: Held) -> Iterator[OfCourse]:
    for name in (document["_id"] for document in held["assignment_config"]):
        course, _, assignment = name.partition("/")
        own = f"{V2}/courses/{course}/assignments/{assignment}"
        for path in (f"{V1}/grading_config/{course}/{assignment}", own, f"{own}/roster"):
            yield course, path
    configured = {tuple(each["_id"].split("/")[:2]) for each in held["assignment_settings"]}
    for course, assignment in sorted(configured):
        for part in ("settings", "settings/versions", "submissions"):
            yield course, f"{V2}/courses/{course}/assignments/{assignment}/{part}"


def _of_runs(held: Held) -> Iterator[OfCourse]:
    for run_id, course in _courses(held).items():
        yield course, f"{V1}/grading_run_status/{course}/{run_id}"
        yield course, f"{V1}/grading_run_env/{course}/{run_id}"
        yield course, f"{V2}/courses/{course}/runs/{run_id}"


def _of_jobs(held: Held) -> Iterator[OfCourse]:
    courses = _courses(held)
    jobs = [(courses[job["grading_run_id"]], job) for job in held["grading_job"]]
    for course, job in jobs:
        yield course, f"{V2}/courses/{course}/jobs/{_id(job)}"
        if job["state"] == "finished":
            yield course, f"{V1}/grading_job_log/{course}/{_id(job)}"
        else:  # its stream lasts as long as the job
            yield course, f"{V1}/queue/{course}/{_id(job)}/position"
    # These repeat parts of the answers above, so one job of each course is enough.
    for course, job in {course: job for course, job in jobs if job["success"]}.items():
        for query in ("", "?limit=1", "?state=queued"):
            yield course, f"{V2}/courses/{course}/runs/{job['grading_run_id']}/jobs{query}"
        for part in ("attempts", "log"):
            yield course, f"{V2}/courses/{course}/jobs/{_id(job)}/{part}"
        yield course, f"{V1}/stream/{course}/{_id(job)}"
        yield course, f"{V1}/queue/{course}/{_id(job)}/position"


def _of_submissions(held: Held) -> Iterator[OfCourse]:
    for each in held["submission"]:
        own = f"{V2}/courses/{each['course']}/submissions/{each['_id']}"
        yield each["course"], own
        yield from ((each["course"], f"{own}/files/{file['path']}") for file in each["files"])
    courses = _courses(held)
    jobs = {_id(job): courses[job["grading_run_id"]] for job in held["grading_job"]}
    for report in held["job_report"]:
        course, job = jobs[report["grading_job_id"]], report["grading_job_id"]
        yield from ((course, f"{V2}/courses/{course}/jobs/{job}/report?view={view}") for view in ("staff", "student"))
    for kept in held["artifact"]:
        own = f"{V2}/courses/{jobs[kept['job']]}/jobs/{kept['job']}/artifacts"
        yield jobs[kept["job"]], own
        yield from ((jobs[kept["job"]], f"{own}/{file['path']}") for file in kept["files"])


def _of_hooks(held: Held) -> Iterator[OfCourse]:
    for hook in held["hook"]:
        own = f"{V2}/courses/{hook['course']}/hooks/{hook['name']}"
        for query in ("", "/deliveries", "/deliveries?limit=1", "/deliveries?state=accepted"):
            yield hook["course"], f"{own}{query}"
    for delivery in (each for each in held["hook_delivery"] if not each["hook"].startswith("@")):
        own = f"{V2}/courses/{delivery['course']}/hooks/{delivery['hook']}"
        yield delivery["course"], f"{own}/deliveries/{delivery['_id']}"


def _of_grades(held: Held) -> Iterator[OfCourse]:
    """Yield the questions about grades whose answers do not depend on the time: no draft is asked for."""
    for pointer in held["grade_book_published"]:
        course, assignment = pointer["course"], pointer["assignment"]
        own = f"{V2}/courses/{course}/assignments/{assignment}"
        for part in ("adjustments", "extensions", "extensions?in_force=true", "grades/versions", "regrades"):
            yield course, f"{own}/{part}"
        numbers = [each["number"]["$numberInt"] for each in held["grade_book"] if each["assignment"] == assignment]
        yield from ((course, f"{own}/grades?version={version}") for version in ("published", *numbers))
        yield course, f"{own}/grades/export?version=published"
        for student in _students(held, f"{course}/{assignment}"):
            standings = f"{V2}/courses/{course}/students/{student}/assignments"
            for part in ("", f"/{assignment}", f"/{assignment}/grade?version=published"):
                yield course, f"{standings}{part}"


def _students(held: Held, assignment: str) -> list[str]:
    """Return the students of an assignment's roster; the members of a group, and not its name."""
    (roster,) = (each for each in held["roster"] if each["_id"] == assignment)
    return [name for each in roster["students"] for name in each.get("members") or [each["student"]]]


def _of_regrades(held: Held) -> Iterator[OfCourse]:
    for regrade in held["regrade"]:
        own = f"{V2}/courses/{regrade['course']}/regrades/{regrade['_id']}"
        yield from ((regrade["course"], f"{own}{part}") for part in ("", "/rows", "/rows?category=up"))


def _of_callbacks(held: Held) -> Iterator[OfCourse]:
    names = {each["id"]: each["name"] for each in held["callback_endpoint"]}
    for course in sorted({each["course"] for each in held["callback_endpoint"]}):
        yield course, f"{V2}/courses/{course}/callbacks"
    for each in held["callback_endpoint"]:
        own = f"{V2}/courses/{each['course']}/callbacks/{each['name']}"
        yield from ((each["course"], f"{own}{part}") for part in ("", "/deliveries", "/deliveries?state=missed"))
    for each in held["callback_delivery"]:
        own = f"{V2}/courses/{each['course']}/callbacks/{names[each['endpoint']]}/deliveries"
        yield each["course"], f"{own}/{_id(each)}"


def _of_operators(held: Held) -> Iterator[str]:
    for collection, path in (("worker_node", f"{V2}/graders"), ("dead_letter", f"{V2}/dead-letters")):
        yield path
        yield from (f"{path}/{document['_id']}" for document in held[collection])


_OF_COURSES = (
    *(_of_courses, _of_assignments, _of_runs, _of_jobs, _of_submissions, _of_hooks),
    *(_of_grades, _of_regrades, _of_callbacks),
)


def _courses(held: Held) -> dict[str, str]:
    """Return the course of each run."""
    return {_id(run): run["assignment_id"].partition("/")[0] for run in held["grading_run"]}


def _id(document: Entry) -> str:
    return str(document["_id"]["$oid"])

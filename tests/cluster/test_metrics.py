"""Metrics of a mixed run agree with the store, and the number of series does not grow with the number of jobs."""

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from bson import ObjectId
from harness import Cluster, Place, free_port, stage, token_of, until
from processes import CLUSTER_TOKEN, QUICK, QUICK_DISPATCHER, processes
from pymongo import AsyncMongoClient
from scraping import Scrape

from broadway.domain.job import Outcome
from broadway.messages.events import JobFinished
from broadway.messages.topology import EVENTS, durable_queues, event_key
from broadway.runtime import metrics

COURSE = "cs241"
pytestmark = pytest.mark.usefixtures("often")


@pytest.fixture
def cluster(own_cluster: Cluster) -> Cluster:
    """A deployment whose metrics no other test has changed."""
    return own_cluster


async def scrape(cluster: Cluster) -> Scrape:
    answer = await cluster.client.metrics()
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape.of(answer.text)


async def stored_jobs(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the documents of jobs, with the starts and attempts that only the documents of their outcomes have."""
    async with AsyncMongoClient[dict[str, Any]](cluster.place.mongodb_dsn, tz_aware=True) as client:
        database = client[f"{cluster.place.name}_ag"]
        jobs = await database["grading_job"].find().to_list()
        outcomes = {each["grading_job_id"]: each for each in await database["job_outcome"].find().to_list()}
    for job in jobs:
        if end := outcomes.get(str(job["_id"])):
            attempts = {each["execution_id"]: each for each in [*job["attempts"], *end["attempts"]]}
            job |= {name: end[name] or job[name] for name in ("started_at", "execution_id")}
            job["attempts"] = list(attempts.values())
    return jobs


async def report(cluster: Cluster, run: dict[str, Any], job: dict[str, Any], **more: Any) -> None:
    """Publish a job's outcome as a grader would."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "course": COURSE,
        "run_id": run["id"],
        "job_id": job["id"],
        "generation": 1,
        "execution_id": token_hex(12),
        "grader_id": "host9",
        "started_at": now,
        "finished_at": now,
        "outcome": Outcome.FAILED,
    }
    await cluster.opened.rabbit.publish(EVENTS, event_key("job", "finished", COURSE), JobFinished(**{**values, **more}))


async def cancel(cluster: Cluster, job_id: str) -> None:
    headers = {"Authorization": f"Bearer {token_of(COURSE)}"}
    answer = await cluster.client.http.post(f"/api/v2/courses/{COURSE}/jobs/{job_id}/cancel", headers=headers)
    assert answer.status_code == 200, answer.text


async def a_mixed_run(cluster: Cluster) -> list[dict[str, Any]]:
    """Run jobs to success, failure, cancellation and both kinds of infrastructure errors; publish reports to refuse."""
    verdicts = [
        await graded(cluster, 4, stage("fails-for", "STUDENT_ID", "2")),
        await graded(cluster, 1, stage("fault", "start")),
        await graded(cluster, 1, {"image": "missing/image:1"}),
    ]
    await cluster.client.register(COURSE, "endless", students=[stage("hang", timeout=600)])
    run_id = await cluster.client.submit(COURSE, "endless", students=1)

    async def running() -> list[dict[str, Any]]:
        jobs = (await cluster.client.describe(COURSE, run_id))["jobs"]
        return [job for job in jobs if job["state"] == "running"]

    (endless,) = await until(running)

    async def is_counted() -> bool:
        now = await scrape(cluster)
        return now.by("broadway_jobs", "state", course=COURSE) == {"running": 1} and now.total(
            "broadway_slots_used", pool="default"
        )

    await until(is_counted)
    await cancel(cluster, endless["id"])
    cancelled = await cluster.client.finished(COURSE, run_id)
    first, *_ = verdicts[0]["jobs"]
    await report(cluster, verdicts[0], first)
    (document,) = [d for d in await stored_jobs(cluster) if d["_id"] == ObjectId(first["id"])]
    await report(cluster, verdicts[0], first, execution_id=document["execution_id"])
    await report(cluster, cancelled, endless)
    await report(cluster, verdicts[0], {"id": "0" * 24})
    return verdicts


async def graded(cluster: Cluster, students: int, *stages: dict[str, Any]) -> dict[str, Any]:
    await cluster.client.register(COURSE, "mp1", students=list(stages))
    return await cluster.client.finished(COURSE, await cluster.client.submit(COURSE, "mp1", students=students))


async def test_a_scrape_after_a_mixed_run_agrees_with_the_store(cluster: Cluster) -> None:
    before = await scrape(cluster)
    cluster.graders.start("host1", slots=2)
    await a_mixed_run(cluster)

    async def has_refused_all() -> bool:
        refused = (await scrape(cluster) - before).by("broadway_outcomes_refused_total", "reason")
        return sum(refused.values()) >= 4

    await until(has_refused_all)
    documents = await stored_jobs(cluster)

    async def is_idle() -> bool:
        now = await scrape(cluster)
        is_known = now.by("broadway_graders", "pool") == {"default": 1}  # its heartbeat may be late
        return is_known and not now.by("broadway_jobs", "state", course=COURSE) and not now.total("broadway_slots_used")

    await until(is_idle)
    now = await scrape(cluster)
    grown = now - before
    outcomes = Counter(document["outcome"] for document in documents)
    assert outcomes == {"succeeded": 3, "failed": 1, "infrastructure_error": 2, "cancelled": 1}
    assert grown.by("broadway_jobs_settled_total", "outcome", course=COURSE) == outcomes
    assert grown.total("broadway_jobs_settled_total") == len(documents), "of no other course"

    started = [document for document in documents if document["started_at"]]
    assert grown.total("broadway_job_queue_seconds_count", course=COURSE) == len(started)
    waits = [(document["started_at"] - document["queued_at"]).total_seconds() for document in started]
    assert grown.total("broadway_job_queue_seconds_sum", course=COURSE) == pytest.approx(sum(waits), abs=0.01)
    last = [document["attempts"][-1] for document in documents]
    seconds = [(attempt["ended_at"] - attempt["started_at"]).total_seconds() for attempt in last]
    assert grown.total("broadway_job_run_seconds_count", course=COURSE) == len(documents)
    assert grown.total("broadway_job_run_seconds_sum", course=COURSE) == pytest.approx(sum(seconds), abs=0.01)

    failed = [a for d in documents for a in d["attempts"] if a["outcome"] == "infrastructure_error"]
    assert grown.total("broadway_infrastructure_errors_total") == len(failed) == 4
    assert grown.total("broadway_infrastructure_errors_total", phase="start", reason="engine") == 3
    assert grown.total("broadway_infrastructure_errors_total", phase="pull", reason="assignment") == 1
    assert grown.by("broadway_jobs_retried_total", "reason", course=COURSE) == {"error": 2}
    assert grown.by("broadway_outcomes_refused_total", "reason") == {
        "duplicate": 1,
        "repeated": 1,
        "stale": 1,
        "unknown": 1,
    }
    assert grown.total("broadway_grader_jobs_total") == 8, "executions, but for the one that was cancelled"

    assert now.by("broadway_graders", "pool") == {"default": 1}
    assert now.by("broadway_slots", "pool") == {"default": 2}
    assert now.total("broadway_leading") == 1
    assert now.total("broadway_part_up", part="store") == now.total("broadway_part_up", part="broker") == 1
    submissions = {"route": "/api/v1/grading_run/{course}/{assignment}", "method": "POST", "status": "200"}
    assert grown.total("broadway_http_requests_total", **submissions) == 4
    assert not grown.total("broadway_publish_failures_total")
    assert grown.total("broadway_publish_seconds_count", exchange="broadway.jobs") >= 7


async def test_more_students_runs_and_graders_add_no_series(
    cluster: Cluster, courses: dict[str, dict[str, object]]
) -> None:
    expected = {queue.name for queue in durable_queues(sorted(courses), ["default"])}

    async def is_over() -> bool:
        now = await scrape(cluster)
        queues = now.labels("broadway_queue_ready_messages", "queue")  # queues are first polled after a while
        ready = now.by("broadway_queue_ready_messages", "queue")
        ready.pop("broadway.unrouted", None)  # advances of runs, while no job is watched
        return queues == expected and not now.by("broadway_jobs", "state") and not ready

    async def grade_all(students: int, *, grader: str) -> set[Any]:
        cluster.graders.start(grader)
        await graded(cluster, students, stage("fails-for", "STUDENT_ID", "1"))
        await cluster.client.http.get(f"/nowhere/{grader}")
        await cluster.client.http.request("REPORT" if students == 2 else "PURGE", "/readyz")
        await until(is_over)
        return (await scrape(cluster)).ours()

    # The first scrape of a process is not in its own answer.
    await grade_all(2, grader="host1")
    first = await grade_all(3, grader="host2")
    second = await grade_all(12, grader="host3")
    assert second == first
    ids = {document["_id"] for document in await stored_jobs(cluster)}
    values = {value for _, labels in second for _, value in labels}
    assert not values & {str(identity) for identity in ids}
    assert not values & {"host1", "host2", "host3", "s0", "s1"}


async def test_operators_see_the_wait_beyond_a_cap_graders_that_rest_and_dead_letters(cluster: Cluster) -> None:
    await cluster.client.register("capped", "mp1", students=[stage("hang", timeout=600)])
    containers = cluster.graders.start("host1", slots=4)
    cluster.graders.start("host2", slots=1).is_away = True
    for _ in range(3):  # the course has two jobs at a time, so the dispatcher holds no message of the third run
        await cluster.client.submit("capped", "mp1", students=1)
    await until(lambda: len(containers.started) == 2)
    letters = cluster.opened.store.dead_letters
    await letters.put(message_id="m1", subject="capped/r/j", queue="broadway.results", reason="odd", body=b"")

    async def are_seen() -> bool:
        now = await scrape(cluster)
        waits = now.by("broadway_oldest_job_seconds", "job_class", course="capped", pool="default")
        resting = now.by("broadway_graders_without_slots", "pool")
        kept = now.total("broadway_dead_letters_kept")
        return waits.keys() == {"interactive"} and resting == {"default": 1} and kept == 1

    await until(are_seen)


async def test_services_without_http_have_their_own_metrics_endpoint(place: Place, tmp_path: Path) -> None:
    ports = {"dispatcher": free_port(), "results": free_port()}
    async with processes(tmp_path, place.environment) as cluster, httpx2.AsyncClient() as http:
        await cluster.service("dispatcher", *QUICK_DISPATCHER, "--metrics-port", str(ports["dispatcher"]))
        await cluster.service("results", *QUICK, "--metrics-port", str(ports["results"]))

        async def read(name: str) -> Scrape | None:
            try:
                answer = await http.get(f"http://127.0.0.1:{ports[name]}/metrics")
            except httpx2.TransportError:
                return None
            return Scrape.of(answer.text)

        async def leads() -> bool:
            scraped = await read("dispatcher")
            return scraped is not None and scraped.total("broadway_leading") == 1

        async def sees_the_store() -> bool:
            scraped = await read("results")
            return scraped is not None and scraped.total("broadway_part_up", part="store") == 1

        await until(leads)
        await until(sees_the_store)
        assert await cluster.terminate("dispatcher") == 0, "the endpoint does not keep the program"

        taken = str(ports["results"])
        await cluster.service("ingest", "--token", CLUSTER_TOKEN, "--metrics-port", taken)
        assert await cluster.running.pop("ingest").wait() == 1
        assert f"--metrics-addr 127.0.0.1, --metrics-port {taken}: cannot listen" in cluster.log("ingest")


def test_every_instrument_follows_the_naming_of_prometheus() -> None:
    for instrument in metrics.INSTRUMENTS:
        (family,) = instrument.describe()
        assert family.name.startswith("broadway_")
        assert family.documentation.endswith(".")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_every_metric_is_in_the_documentation() -> None:
    rows = re.findall(
        r"^\| `(broadway_\w+)` \| (\w+) \| (.*) \| (.+) \|$", Path("docs/monitoring.md").read_text(), re.MULTILINE
    )
    documented = {name: (kind, re.findall(r"`(\w+)`", labels), meaning) for name, kind, labels, meaning in rows}
    suffixes = {"counter": "_total", "info": "_info"}
    for instrument in metrics.INSTRUMENTS:
        (family,) = instrument.describe()
        name = family.name + suffixes.get(family.type, "")
        labels = list(instrument._labelnames)  # noqa: SLF001 - nothing public has them
        assert documented.pop(name) == (family.type, labels, family.documentation)
    assert documented == {}

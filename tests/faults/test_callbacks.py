"""Callbacks while processes die between any two effects: each event arrives at least once, with one id and one body."""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from faults.report import Report
from faults.servers import Servers
from faults.world import COURSES, World
from harness import IS_WHOLE, free_port, stage, until
from receivers import Receiver

from broadway.domain.callback import CallbackEvent
from broadway.runtime.clock import now
from broadway.runtime.crashpoints import Point

COURSE = COURSES[0]
MODES = ("exit", "raise", "hang", "cancel")
OF_CALLBACKS = [point for point in Point if point.value.startswith("callback.")]
# Only publications of grades reach the other point; tests/notifier/test_crashes.py tests it.
PAIRS = [(point, mode) for point in OF_CALLBACKS if point is not Point.CALLBACK_EMITTED for mode in MODES]
SELECTED = PAIRS if IS_WHOLE else [(Point.CALLBACK_STORED, "exit"), (Point.CALLBACK_SENT, "exit")]
STUDENTS = 3


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver.open(port=free_port()) as opened:
        yield opened


@pytest.fixture(scope="module")
async def world(shared: Servers, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> AsyncIterator[World]:
    allowed = ("--callback-allow", "127.0.0.1", "--callback-ports", str(receiver.port), "--callback-http")
    directory: Path = tmp_path_factory.mktemp("world")
    flags = {"ingest": allowed, "notifier": allowed}
    async with World.open(directory, shared=shared, notifiers=2, slots=2, crashes=True, flags=flags) as world:
        await world.register(COURSE, "mp1", {"student_pipeline": [stage("exit", "0")]})
        endpoint = {"name": "lms", "url": f"http://127.0.0.1:{receiver.port}/", "types": []}
        answer = await world.ask("POST", f"/api/v2/courses/{COURSE}/callbacks", COURSE, endpoint)
        assert answer.status_code == 201, answer.text
        await until(lambda: _is_heard(world, receiver))
        yield world


async def _is_heard(world: World, receiver: Receiver) -> bool:
    """Send a ping, and return whether one has arrived."""
    answer = await world.ask("POST", f"/api/v2/courses/{COURSE}/callbacks/lms/ping", COURSE)
    return answer.status_code == 202 and bool(receiver.requests)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("point", "mode"), SELECTED, ids=str)
async def test_each_callback_survives_a_crash(world: World, receiver: Receiver, point: Point, mode: str) -> None:
    trap = world.directory / "crash"
    with contextlib.suppress(FileNotFoundError):
        trap.with_suffix(".taken").unlink()
    trap.write_text(f"{point.value} {mode}")

    run_id = await world.submit(COURSE, "mp1", STUDENTS, key=f"{point.value} {mode}")

    await until(lambda: trap.with_suffix(".taken").exists(), within=60)
    await world.are_complete([run_id], within=120)
    expected = await _expected(world, [run_id])
    await until(lambda: expected <= set(receiver.ids), within=60)


async def test_each_event_has_one_id_and_one_body(world: World, receiver: Receiver, report: Report) -> None:
    """Check all callbacks, after all other tests of this module."""
    runs = [str(run["_id"]) for run in await world.database["grading_run"].find({}, {"_id": 1}).to_list()]
    expected = await _expected(world, runs)
    bodies: dict[str, set[bytes]] = defaultdict(set)
    for request in receiver.requests:
        bodies[request.id].add(request.body)
    assert len(expected) == len(SELECTED) * (STUDENTS + 1)
    facts = {identity for identity, sent in bodies.items() if not any(b'"type":"ping"' in body for body in sent)}
    assert facts == expected
    assert all(len(sent) == 1 for sent in bodies.values())
    repeated = sum(request.id in expected for request in receiver.requests) - len(expected)
    report.row(
        "callbacks",
        f"a crash at {len(OF_CALLBACKS)} named points, {len(SELECTED)} pairs of point and mode ({', '.join(MODES)})",
        f"{len(facts)} of {len(expected)} callbacks arrived, each with one id and one body; {repeated} were repeated",
        "0 violations",
    )


async def _expected(world: World, run_ids: list[str]) -> set[str]:
    """Return the ids of the events of runs and their jobs, from the stored outcomes."""
    jobs = [job for job in await world.jobs({}) if str(job["grading_run_id"]) in run_ids]
    of_jobs = [
        CallbackEvent.job_finished(COURSE, str(job["_id"]), job["generation"], run_id="", at=now()) for job in jobs
    ]
    of_runs = [CallbackEvent.run_finished(COURSE, run_id, 1, at=now()) for run_id in run_ids]
    return {event.id for event in (*of_jobs, *of_runs)}

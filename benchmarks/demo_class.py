"""The demo's class on `broadway up`, with each runtime: what an instructor waits for on one machine."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import structlog

from benchmarks.plan import Plan
from benchmarks.rounds import interleave
from benchmarks.samples import Figure, Results
from benchmarks.stages import DOCKER, OCI
from demo import image, pipelines, stack, submissions
from demo.__main__ import GRADERS, LIMIT, SLOTS
from demo.client import Course
from demo.pipelines import CALCULATOR
from demo.results import as_expected

log = structlog.get_logger(__name__)

CLASS = Figure("the demo's class of 30, all of it", "s")
HONEST = Figure("the demo's class, those whose programs end by themselves", "s")
LOAD = Figure("the demo's class: load of the machine", "")
RUNTIMES = {DOCKER: "docker", OCI: "oci"}
TIMED_OUT = "timed_out"  # the outcome of students who wait for the stage's time limit, on every runtime


async def measure(plan: Plan, results: Results, directory: Path) -> None:
    """The demo's class of 30, graded by `broadway up` with Docker and with oci."""
    contenders = {name: partial(_sample, directory / runtime, runtime) for name, runtime in RUNTIMES.items()}
    await interleave(contenders, rounds=2 * plan.class_rounds, into=results, warm_up=False)
    results.notes["demo-class"] = (
        f"three stages for each of {len(submissions.expected())} students on {GRADERS} graders with {SLOTS} slots each,"
        f" after a job of one student; the second figure is a run of those who do not wait for a time limit"
    )


async def _sample(directory: Path, runtime: str) -> Mapping[Figure, float]:
    with (
        stack.running(directory, graders=GRADERS, slots=SLOTS, runtime=runtime) as site,
        Course.connect(site.api, site.token) as course,
    ):
        if site.facts["runtime"] != runtime:
            raise RuntimeError(site.runtime)
        images = image.ensure(site.docker_host, lambda _: None)
        expected = submissions.expected()
        course.apply(CALCULATOR, pipelines.calculator(images), pipelines.calculator_settings(), list(expected))
        for student in expected:
            course.hand_in(CALCULATOR, student, submissions.files(student))
        honest = [student for student, each in expected.items() if each.outcome != TIMED_OUT]
        _graded(course, honest[:1])
        return {HONEST: _graded(course, honest), CLASS: _graded(course, list(expected)), LOAD: os.getloadavg()[0]}


def _graded(course: Course, students: list[str]) -> float:
    """Grade some students, and return the seconds from their first job's queue to the last one's end."""
    run = course.start(CALCULATOR, students)
    while not (found := course.look(run, within=LIMIT)).is_over:
        pass
    expected = {student: each for student, each in submissions.expected().items() if student in students}
    others = len(students) - as_expected(course.rows(run), expected)
    if others > len(students) // 5:
        raise RuntimeError(f"run {run} has {others} other results than expected")
    if others:  # on a busy machine an honest program may reach its time limit
        log.warning("other results than expected", run=run, students=others)
    (phase,) = (each for each in found.phases if each.phase == "students")
    if phase.queued_at is None or phase.finished_at is None:
        raise RuntimeError(f"run {run} has no times")
    return (phase.finished_at - phase.queued_at).total_seconds()

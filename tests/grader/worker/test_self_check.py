"""A grader that breaks pauses itself, and resumes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import pytest
from harness import until

from broadway.domain.job import FaultPhase, Outcome
from broadway.grader.grading.grade import Graded
from broadway.grader.ports import ContainerError
from broadway.grader.worker.self_check import REMEMBERED, SelfCheck, check_disk
from broadway.runtime.health import Health

BROKEN = Graded(
    Outcome.INFRASTRUCTURE_ERROR, "create: the engine broke", [], "", fault_phase=FaultPhase.CREATE, retryable=True
)
NO_REGISTRY = Graded(
    Outcome.INFRASTRUCTURE_ERROR, "pull: image x: no such host", [], "", fault_phase=FaultPhase.PULL, retryable=True
)
MISCONFIGURED = Graded(Outcome.INFRASTRUCTURE_ERROR, "pull: image x: not found", [], "", fault_phase=FaultPhase.PULL)
FINE = Graded(Outcome.FAILED, "exit code 1", [], "")
PAUSE = 0.05


class Part:
    """A dependency that works unless it has a problem."""

    problem = ""

    async def __call__(self) -> None:
        if self.problem:
            raise OSError(self.problem)


class Trial:
    """A container of the grader's own, which runs unless it is broken."""

    is_broken = False
    runs = 0

    async def __call__(self) -> None:
        self.runs += 1
        if self.is_broken:
            raise ContainerError("the engine broke", phase=FaultPhase.CREATE, retryable=True)


def self_check(trial: Trial | None = None, **checks: Callable[[], Awaitable[None]]) -> SelfCheck:
    """Return the subject; without a trial, no container of the grader's own runs."""
    if trial is None:
        trial = Trial()
        trial.is_broken = True
    return SelfCheck(Health(checks), trial, limit=3, pause=PAUSE)


def of_image(image: str) -> Graded:
    return replace(BROKEN, image=image)


async def note(subject: SelfCheck, *outcomes: Graded) -> None:
    """Note outcomes, each of a different job."""
    for graded in outcomes:
        await subject.note(token_hex(12), graded)


async def test_errors_in_a_row_are_a_reason_to_pause() -> None:
    subject = self_check()
    await note(subject, BROKEN, BROKEN)
    assert subject.reason == ""

    await note(subject, BROKEN)
    assert subject.reason == "3 jobs in a row met infrastructure errors, the last one: create: the engine broke"


async def test_one_course_cannot_pause_a_grader_whose_own_container_runs() -> None:
    trial = Trial()
    subject = self_check(trial)
    for number in range(20):
        await subject.note(f"job-{number}", of_image(f"image-{number}"), course="cs1")

    assert subject.reason == ""
    assert trial.runs > 0


async def test_one_image_cannot_pause_a_grader_whose_own_container_runs() -> None:
    subject = self_check(Trial())
    for number in range(20):
        await subject.note(f"job-{number}", of_image("shared"), course=f"cs{number}")

    assert subject.reason == ""


@pytest.mark.parametrize("course", ["cs{}", ""], ids=["of different courses", "of an API that names no courses"])
async def test_errors_of_different_images_and_courses_are_a_reason_to_pause(course: str) -> None:
    trial = Trial()
    subject = self_check(trial)
    for number in range(3):
        await subject.note(f"job-{number}", of_image(f"image-{number}"), course=course.format(number))

    assert subject.reason == "3 jobs in a row met infrastructure errors, the last one: create: the engine broke"
    assert trial.runs == 0


async def test_a_course_pauses_a_grader_whose_own_container_fails_too() -> None:
    trial = Trial()
    trial.is_broken = True
    subject = self_check(trial)
    for number in range(3):
        await subject.note(f"job-{number}", of_image("image"), course="cs1")

    assert subject.reason.endswith("the last one: create: the engine broke")


async def test_an_absent_registry_pauses_no_grader() -> None:
    subject = self_check()
    for number in range(20):
        await subject.note(f"job-{number}", replace(NO_REGISTRY, image=f"image-{number}"), course=f"cs{number}")

    assert subject.reason == ""


async def test_the_memory_of_failed_jobs_is_bounded() -> None:
    subject = SelfCheck(Health({}), Trial(), limit=10_000, pause=PAUSE)
    await note(subject, *[BROKEN] * (REMEMBERED + 5))

    assert len(subject._failed) == REMEMBERED  # noqa: SLF001 - nothing else shows it


@pytest.mark.parametrize("other", [FINE, MISCONFIGURED], ids=["an outcome", "a missing image"])
async def test_errors_not_in_a_row_or_not_of_the_grader_are_no_reason(other: Graded) -> None:
    subject = self_check()
    await note(subject, BROKEN, BROKEN, FINE, BROKEN, other, other, other, BROKEN)

    assert subject.reason == ""


async def test_a_job_that_fails_again_and_again_counts_once() -> None:
    subject = self_check()
    for _ in range(10):
        await subject.note("the same", BROKEN)
    assert subject.reason == ""

    await note(subject, BROKEN, BROKEN)
    assert subject.reason != ""


async def test_after_a_pause_one_more_error_is_enough_for_a_longer_pause() -> None:
    subject = self_check()
    loop = asyncio.get_running_loop()
    await note(subject, BROKEN, BROKEN, BROKEN)
    begun = loop.time()
    await until(lambda: not subject.reason)
    assert loop.time() - begun >= PAUSE * 0.9

    again = loop.time()
    await note(subject, BROKEN)
    assert subject.reason.startswith("4 jobs in a row")
    assert subject._until - again > 1.5 * PAUSE  # noqa: SLF001 - waiting for it would prove less


@pytest.mark.parametrize("part", ["engine", "disk"])
async def test_a_missing_engine_or_disk_is_a_reason_to_pause(part: str) -> None:
    needed = Part()
    subject = self_check(**{part: needed})
    needed.problem = "it is gone"
    await subject.health.check()
    assert subject.reason == f"{part}: it is gone"

    needed.problem = ""
    await subject.health.check()
    assert subject.reason == ""


async def test_one_failed_job_is_enough_to_detect_a_missing_engine() -> None:
    engine = Part()
    subject = self_check(engine=engine)
    await subject.health.check()
    engine.problem = "it is gone"

    await note(subject, FINE, MISCONFIGURED)
    assert subject.reason == ""
    await note(subject, BROKEN)
    assert subject.reason == "engine: it is gone"


async def test_a_missing_broker_is_no_reason_to_pause() -> None:
    broker = Part()
    broker.problem = "away"
    subject = self_check(broker=broker)
    await subject.health.check()

    assert subject.reason == ""


async def test_a_disk_with_too_little_free_space_is_an_error(tmp_path: Path) -> None:
    await check_disk(tmp_path / "work", needed=1024)
    with pytest.raises(OSError, match=r"MiB are free on the jobs' disk, 1073741824 MiB are needed"):
        await check_disk(tmp_path, needed=2**50)

"""The stack starts from its file, grades a class while its containers restart, and stops without a trace.

Each test continues with the stack as the previous one left it.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest
from compose.stack import COURSE_TOKEN, Stack
from compose.stand_ins import PYTHON
from harness import until

from demo import image, pipelines, submissions
from demo.client import ClientError, Course

pytestmark = pytest.mark.long

FEW = 8
ROLES = ("ingest", "dispatcher", "results", "notifier", "grader-1", "grader-2")
DRAIN = 30  # seconds that the engine gives a grader to stop
LABELS = ("title", "description", "licenses", "version", "revision", "created", "base.name")


@dataclass
class Class:
    """The demo's class: all students are graded first, and a few once more after each graded run."""

    course: Course
    runs: dict[str, list[str]] = field(default_factory=dict)  # each run's students

    def is_graded(self) -> bool:
        try:
            return self.course.run(list(self.runs)[-1]).is_over
        except ClientError:  # the API is being restarted
            return False

    def grade(self) -> None:
        students = list(submissions.expected())[: FEW if self.runs else None]
        self.runs[self.course.start(pipelines.CALCULATOR, students)] = students

    def wrong(self, run: str) -> list[Any]:
        """Return the rows of students with an unexpected result."""
        rows, expected = self.course.rows(run), submissions.expected()
        assert [row.student for row in rows] == self.runs[run]
        return [row for row in rows if not row.is_as(expected[row.student])]


@contextlib.contextmanager
def enrolled(stack: Stack, docker_host: str) -> Iterator[Class]:
    """Store the demo's assignment, and hand in the submissions of the whole class."""
    students, images = list(submissions.expected()), image.ensure(docker_host, print)
    with Course.connect(stack.api, COURSE_TOKEN) as course:
        settings = pipelines.calculator_settings()
        course.apply(pipelines.CALCULATOR, pipelines.calculator(images), settings, students)
        for student in students:
            course.hand_in(pipelines.CALCULATOR, student, submissions.files(student))
        yield Class(course)


@pytest.mark.timeout(290)
async def test_the_image_is_small_labeled_and_unprivileged(broadway_image: str, api: docker.APIClient) -> None:
    found, base = api.inspect_image(broadway_image), api.inspect_image(PYTHON)
    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["Entrypoint"] == ["python", "-m"]
    assert {f"org.opencontainers.image.{label}" for label in LABELS} <= found["Config"]["Labels"].keys()
    assert found["Size"] - base["Size"] < 150e6


@pytest.mark.timeout(290)
async def test_the_stack_starts_confined_and_reveals_no_secret(stack: Stack, secrets: Path) -> None:
    containers = stack.containers()
    assert len(containers) == 11, list(containers)
    values = [path.read_text().strip() for path in secrets.iterdir()]
    for name, each in containers.items():
        is_grader = "_grader-" in name
        options = each["HostConfig"]
        assert options["ReadonlyRootfs"], name
        assert options["CapDrop"] == ["ALL"], name
        assert "no-new-privileges=true" in options["SecurityOpt"], name
        assert not options["Privileged"], name
        assert options["Memory"] > 0, name
        assert options["PidsLimit"] > 0, name
        assert bool(options["CapAdd"]) is is_grader, name
        assert each["Config"]["User"], name
        assert (each["Config"]["User"] == "0:0") is is_grader, name
        visible = str((each["Config"], each["Args"]))
        assert not [value for value in values if value in visible], name


@pytest.mark.timeout(290)
async def test_commands_see_both_graders(stack: Stack) -> None:
    async def listed() -> bool:
        found = await asyncio.to_thread(stack.compose, "run", "--rm", "cli", "grader", "list")
        return all(f"host1-{number}" in found for number in (1, 2))

    await until(listed)


@pytest.mark.timeout(290)
async def test_every_role_serves_its_metrics(stack: Stack) -> None:
    read = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:9470/metrics').read().decode())"
    answers = {
        name: await asyncio.to_thread(stack.execute, name, "python", "-c", read)
        for name in stack.containers()
        if any(f"_{role}_" in name for role in ROLES)
    }
    assert len(answers) == 7, list(answers)
    assert {
        name: metrics[:400] for name, (code, metrics) in answers.items() if code or "broadway_build" not in metrics
    } == {}


@pytest.mark.timeout(290)
async def test_a_class_is_graded_while_every_container_is_restarted(stack: Stack, docker_host: str) -> None:
    with enrolled(stack, docker_host) as students:
        students.grade()
        for name in stack.containers():
            if students.is_graded():
                students.grade()
            await asyncio.to_thread(stack.client.restart, name, timeout=DRAIN)
            await until(lambda name=name: asyncio.to_thread(stack.is_well, name), within=120)
        await until(students.is_graded, within=240)
        assert [students.wrong(run) for run in students.runs] == [[] for _ in students.runs]
        jobs = [job for run in students.runs for job in students.course.run(run).jobs]
    assert {job.grader for job in jobs} == {"host1-1", "host1-2"}
    url = f"{stack.api}/api/v2/courses/{pipelines.COURSE}/jobs/{jobs[0].id}"
    described = httpx2.get(url, headers={"Authorization": f"Bearer {COURSE_TOKEN}"}).json()
    assert all(stage["usage"]["cpu_seconds"] > 0 for stage in described["stages"]), "graders see control groups"


@pytest.mark.timeout(290)
async def test_the_stack_stops_and_leaves_nothing(stack: Stack) -> None:
    assert stack.left()
    stack.down()
    assert stack.left() == []

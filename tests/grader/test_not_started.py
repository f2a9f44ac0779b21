"""Containers that cannot be started on real engines: the student's failures, those of images, and the other courses."""

import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import pytest
from harness import IS_WHOLE
from images import BUSYBOX, busybox, layer

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase, Outcome, Phase
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import grade
from broadway.grader.grading.verdict import judge
from broadway.grader.ports import ContainerError, Containers, Labels, Limits, Mount, StageRun
from broadway.grader.worker.availability import Availability
from broadway.grader.worker.reports import Reports
from broadway.grader.worker.runner import Runner
from broadway.grader.worker.self_check import SelfCheck
from broadway.grader.worker.spool import Spool
from broadway.grader.worker.worker import Worker
from broadway.messages.events import Event, GraderOrder, JobDispatched, JobFinished
from broadway.messages.topology import Exchange
from broadway.runtime.health import Health

PROGRAM = Path(shutil.which("busybox") or "/bin/busybox")
OTHER_MACHINE = {62: 183, 183: 62}  # e_machine of amd64 and arm64, for each the other
AT_A_TIME = 4


@pytest.fixture
def limits() -> Limits:
    return Limits(allow_local_registries=True)


def file(content: bytes = b"", mode: int = 0o755) -> Callable[[Path], object]:
    def make(place: Path) -> None:
        place.write_bytes(content)
        place.chmod(mode)

    return make


def link(target: str) -> Callable[[Path], object]:
    return lambda place: place.symlink_to(target)


def nothing(_: Path) -> None:
    pass


def of_another_machine() -> bytes:
    program = bytearray(PROGRAM.read_bytes())
    program[18] = OTHER_MACHINE[program[18]]
    return bytes(program)


# The ways in which /job/a.out cannot be executed, with the entrypoint and a part of the reason.
WAYS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (nothing, "/job/a.out", "does not exist"),
    "in a missing directory": (nothing, "/job/build/a.out", "does not exist"),
    "below a file": (file(), "/job/a.out/b", "not a directory"),
    "not executable": (file(b"#!/bin/sh\n", 0o644), "/job/a.out", "not an executable file"),
    "without any rights": (file(b"#!/bin/sh\n", 0), "/job/a.out", "not an executable file"),
    "a directory": (Path.mkdir, "/job/a.out", "not an executable file"),
    "a FIFO": (os.mkfifo, "/job/a.out", "not an executable file"),
    "an executable FIFO": (
        lambda place: os.mkfifo(place) or place.chmod(0o777),
        "/job/a.out",
        "not an executable file",
    ),
    "a dangling link": (link("nowhere"), "/job/a.out", "does not exist"),
    "a link to a missing file of the image": (link("/nowhere"), "/job/a.out", "does not exist"),
    "a link to itself": (link("a.out"), "/job/a.out", "circle"),
    "a link to a directory": (link("/bin"), "/job/a.out", "not an executable file"),
    "a script with a missing interpreter": (file(b"#!/no/such\n"), "/job/a.out", "does not exist"),
    "a script with a missing interpreter in /job": (file(b"#!/job/no/such\n"), "/job/a.out", "does not exist"),
    "a script that interprets itself": (file(b"#!/job/a.out\n"), "/job/a.out", "circle"),
    "a script with CRLF": (file(b"#!/bin/sh\r\necho hi\r\n"), "/job/a.out", "does not exist"),
    "a script without an interpreter": (file(b"echo hi\n"), "/job/a.out", "not a program"),
    "an empty file": (file(), "/job/a.out", "not a program"),
    "of another machine": (file(of_another_machine()), "/job/a.out", "not a program"),
    "a truncated header": (file(PROGRAM.read_bytes()[:18]), "/job/a.out", "not a program"),
    "truncated after its header": (file(PROGRAM.read_bytes()[:100]), "/job/a.out", "not a program"),
    "truncated": (file(PROGRAM.read_bytes()[:5000]), "/job/a.out", "signal|not a complete program"),
    "text": (file(b"\xef\xbb\xbf#!/bin/sh\n"), "/job/a.out", "not a program"),
    "a name that is too long": (nothing, f"/job/{'x' * 300}", "too long"),
    "a path that is too long": (nothing, f"/job/{'x/' * 2500}", "too long"),
    "a roundabout path": (nothing, "/job/../job//a.out", "does not exist"),
    "two slashes": (nothing, "//job//a.out", "does not exist"),
    "a relative path": (nothing, "job/a.out", "does not exist"),
    "through proc": (nothing, "/proc/self/root/job/a.out", "does not exist|not an executable file"),
    "a name with a line break": (nothing, "/job/a\nb", "does not exist"),
    "a name with quotes": (nothing, '/job/a"b`c', "does not exist"),
    "the directory itself": (nothing, "/job", "not an executable file"),
}
RUN_BY_INIT = {  # a strict stage's init runs these as scripts, like a shell
    "a script without an interpreter",
    "an empty file",
    "of another machine",
    "a truncated header",
    "truncated after its header",
    "text",
}


def ways_on(kind: str) -> list[str]:
    """Return all ways; in the short session for the engine, whose containers cost more, one of each reason."""
    reasons = {why: name for name, (_, _, why) in WAYS.items()}
    return list(WAYS) if IS_WHOLE or kind == "oci" else list(reasons.values())


async def test_every_way_in_which_a_program_below_job_cannot_be_executed(
    kind: str, containers: Containers, labels: Labels, tmp_path: Path
) -> None:
    assert len(ways_on("oci")) >= 26
    gate, numbers = asyncio.Semaphore(AT_A_TIME), itertools.count()

    async def attempt(name: str, stage: Stage) -> StageRun:
        number = next(numbers)
        job = tmp_path / str(number)
        job.mkdir()
        WAYS[name][0](job / "a.out")
        own = replace(labels, stage=number)
        async with gate:
            return await containers.run(stage, mounts=[Mount("/job", job, read_only=False)], labels=own)

    async def check(name: str) -> None:
        _, entrypoint, why = WAYS[name]
        shared = {"image": BUSYBOX, "entrypoint": [entrypoint]}
        standard = judge(await attempt(name, Stage.model_validate({**shared, "networking": False})))
        assert standard.outcome is Outcome.FAILED, name
        assert any(part in standard.reason for part in why.split("|")), f"{name}: {standard.reason}"
        strict = judge(await attempt(name, Stage.model_validate({**shared, "untrusted": True})))
        assert strict.outcome is Outcome.FAILED or name in RUN_BY_INIT, f"{name}: {strict.reason}"

    async with asyncio.TaskGroup() as group:
        for name in ways_on(kind):
            group.create_task(check(name))


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of executable files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Images:
    """Images of this test, which are removed at its end."""

    api: docker.APIClient
    made: list[str] = field(default_factory=list)

    def make(self, name: str, root: bytes = b"", *changes: str) -> str:
        """Make an image of a root file system, by default busybox, with lines of a Dockerfile."""
        self.api.import_image_from_data(
            root or busybox(), repository=f"broadway-test-{name}", tag="1", changes=list(changes)
        )
        self.made.append(f"broadway-test-{name}:1")
        return self.made[-1]


@pytest.fixture
def images(api: docker.APIClient) -> Iterator[Images]:
    made = Images(api)
    yield made
    for name in made.made:
        api.remove_image(name, force=True)


@dataclass
class Jobs:
    """Grades jobs, each in a directory of its own."""

    containers: Containers
    labels: Labels
    directories: Directories
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def grade(self, *stages: dict[str, Any]) -> Any:
        number = next(self.numbers)
        own = replace(self.labels, execution_id=f"{self.labels.execution_id}-{number}")
        every = [{"networking": False, **stage} for stage in stages]
        return await grade(every, containers=self.containers, directories=self.directories, labels=own)


@pytest.fixture
def jobs(containers: Containers, labels: Labels, tmp_path: Path) -> Iterator[Jobs]:
    with contextlib.closing(Directories(tmp_path)) as directories:
        yield Jobs(containers, labels, directories)


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"image": BUSYBOX, "entrypoint": ["sh", "-c", script], **more}


async def test_what_the_image_does_not_have_is_an_infrastructure_error_that_names_it(
    jobs: Jobs, images: Images
) -> None:
    broken = images.make("broken", archive({"run.sh": b"#!/no/such\n"}))
    in_job = {"untrusted": True}
    ways: list[tuple[dict[str, Any], str]] = [
        ({"image": BUSYBOX, "entrypoint": ["/opt/nope"]}, "/opt/nope"),
        ({"image": BUSYBOX, "entrypoint": ["nope\n"]}, "nope"),
        ({"image": BUSYBOX, "entrypoint": ["/bin"]}, "/bin"),
        ({"image": BUSYBOX, "entrypoint": ["/opt/nope"], **in_job}, "/opt/nope"),
        ({"image": BUSYBOX, "entrypoint": ["nope"], **in_job}, "nope"),
        ({"image": broken, "entrypoint": ["/run.sh"]}, "/run.sh"),
        ({"image": broken, "entrypoint": ["/run.sh"], **in_job}, "/run.sh"),
    ]
    for stage, named in ways:
        graded = await jobs.grade(stage)
        assert (graded.outcome, graded.fault_phase) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.START), graded.reason
        assert named in graded.reason
        assert not graded.retryable, graded.reason


@pytest.mark.parametrize(
    "printed", ["exec /bin/sh: no such file or directory", "[FATAL tini (7)] exec sh failed: No such file or directory"]
)
async def test_a_student_who_prints_an_engines_words_has_failed(jobs: Jobs, printed: str) -> None:
    for more in ({}, {"untrusted": True}):
        for program in ("/bin/sh", "sh"):
            graded = await jobs.grade(
                shell(f"echo '{printed}'; exit 1", **more)
                | {"entrypoint": [program, "-c", f"echo '{printed}'; exit 1"]}
            )
            assert (graded.outcome, graded.reason) == (Outcome.FAILED, "stage 1 of 1: exit code 1")


async def test_a_working_directory_or_search_path_below_job(jobs: Jobs, images: Images) -> None:
    there = images.make("workdir", b"", "WORKDIR /job/build")
    on_path = images.make("path", b"", "ENV PATH=/job/bin:/bin")

    for script in ("touch /job/build", "ln -s build /job/build"):
        graded = await jobs.grade(shell(script), shell("true", image=there))
        assert graded.outcome is Outcome.FAILED
        assert "/job/build cannot be the working directory" in graded.reason
    missing = await jobs.grade({"image": on_path, "entrypoint": ["a.out"]})
    assert (missing.outcome, missing.reason) == (
        Outcome.FAILED,
        "stage 1 of 1: a.out cannot be started: it is not found in PATH",
    )
    fine = await jobs.grade(shell("mkdir /job/build"), shell("pwd", image=there))
    assert (fine.outcome, fine.stdout.split()[-1]) == (Outcome.SUCCEEDED, "/job/build")


def of_architecture(name: str, architecture: str) -> bytes:
    """Return an archive of an image for another machine, as `docker save` makes it."""
    content = layer(("bin/true", of_another_machine()))
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    documents = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    return archive({**documents, "layer.tar": content})


async def test_an_image_of_another_architecture_is_refused_and_both_are_named(
    jobs: Jobs, images: Images, api: docker.APIClient
) -> None:
    name = "broadway-test-foreign:1"
    load: Callable[[bytes], Iterator[object]] = api.load_image
    list(load(of_architecture(name, "s390x")))
    images.made.append(name)

    graded = await jobs.grade(shell("true"), {"image": name})

    assert (graded.outcome, graded.fault_phase) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.PULL)
    assert "linux/s390x" in graded.reason
    assert f"linux/{api.version()['Arch']}" in graded.reason
    assert not graded.retryable


@dataclass
class RecordingBroker:
    """Keeps the outcome of each job."""

    last: dict[str, JobFinished] = field(default_factory=dict)

    async def publish(self, _exchange: Exchange, _key: str, event: Event) -> None:
        if isinstance(event, JobFinished):
            self.last[event.job_id] = event


async def test_five_jobs_of_one_course_that_cannot_run_do_not_stop_another_course(
    containers: Containers, labels: Labels, images: Images, tmp_path: Path
) -> None:
    runner = Runner(labels.grader_id, labels.boot_id, containers, Directories(tmp_path / "jobs"))
    self_check = SelfCheck(Health({"engine": containers.ping}), runner.try_out, limit=5, pause=600)
    availability = Availability(self_check, 1, GraderOrder(grader_id=labels.grader_id, revision=0))
    broker = RecordingBroker()
    worker = Worker(runner, availability, Reports(broker), Spool(tmp_path / "spool", JobFinished))

    async def run(course: str, job: str, stage: dict[str, Any]) -> JobFinished:
        event = JobDispatched(
            course=course,
            run_id="r1",
            job_id=job,
            generation=1,
            assignment="mp1",
            phase=Phase.STUDENTS,
            attempt=1,
            stages=[{"networking": False, **stage}],
        )
        await worker.work(event)
        return broker.last[job]

    images.make("proc", layer(("proc", "-> /bin"), ("bin", 0o755)))
    images.make("etc", layer(("etc", "-> /proc"), ("bin", 0o755)))
    images.make("volume", b"", "VOLUME /proc/y")
    hopeless: list[dict[str, Any]] = [
        *({"image": "127.0.0.1:1/absent:1"},) * 5,
        *({"image": f"broadway-test-{name}:1", "entrypoint": ["nope"]} for name in ("proc", "etc", "volume")),
        *({"image": BUSYBOX, "entrypoint": [f"nope{end}"]} for end in ("", "\n")),
        *({"image": f"127.0.0.1:1/absent{number}:1"} for number in range(5)),
    ]
    for number, stage in enumerate(hopeless):
        failed = await run("cs1", f"job{number}", stage)
        assert failed.outcome is Outcome.INFRASTRUCTURE_ERROR
        assert str(stage["image"]) in failed.reason

    assert "pulls failed 3 times" in broker.last["job4"].reason
    assert availability.capacity == 1
    honest = await run("cs2", "honest", shell("echo 42"))
    assert (honest.outcome, honest.stdout.split()[-1]) == (Outcome.SUCCEEDED, "42")


async def test_an_error_at_the_start_names_no_directory_of_the_host(
    containers: Containers, labels: Labels, images: Images
) -> None:
    stage = Stage(
        image=images.make("odd", layer(("proc", "-> /bin"), ("bin", 0o755))), entrypoint=["sh"], networking=False
    )
    await containers.ensure_images([stage.image])
    with pytest.raises(ContainerError) as raised:
        await containers.run(stage, mounts=[], labels=labels)
    assert str(Path.cwd()) not in str(raised.value)
    assert "overlay2" not in str(raised.value)

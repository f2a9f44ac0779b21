"""Errors of runtimes at the start of a container: those that students' files cause, and those of images and configs."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broadway.domain.assignment import Stage
from broadway.grader.ports import KilledFor, StageRun
from broadway.grader.sandbox.mounts import detach
from broadway.grader.sandbox.programs import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    Program,
    never_started,
    obstacle,
    students_fault,
    with_late_fault,
)

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
STAMP = "2026-03-01T12:00:00.000000000Z "
MISSING = "it does not exist, or it names an interpreter that does not exist"
NO_PROGRAM = "it is not a program for this machine, and it names no interpreter"
NO_EXECUTABLE = "it is not an executable file"
CIRCLE = "its links lead in a circle"
RUNC = (
    "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {}"
)
RUNSC = "OCI runtime start failed: starting container: starting sandbox: creating process: {}: unknown"
HINT = (
    ": unknown: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path "
    "exists and is the expected type"
)


def program(name: str = "/job/a.out", directory: str = "/", path: str = "/usr/bin:/bin") -> Program:
    return Program(name, directory, path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (RUNC.format('exec: "/job/a.out": stat /job/a.out: no such file or directory: unknown'), MISSING),
        (RUNC.format('exec: "/job/a.out": permission denied: unknown'), NO_EXECUTABLE),
        (RUNC.format('exec: "/job/a.out": is a directory: unknown'), NO_EXECUTABLE),
        (RUNC.format('exec: "/job/a.out": stat /job/a.out: too many levels of symbolic links: unknown'), CIRCLE),
        (RUNC.format('exec: "/job/a.out": stat /job/a.out: not a directory') + HINT, "a part of its path is not a dir"),
        (RUNC.format('exec: "/job/a.out": stat /job/a.out: file name too long: unknown'), "its path is too long"),
        (RUNC.format('exec: "/job/a.out": text file busy: unknown'), "it is still open for writing"),
        (RUNSC.format("failed to load /job/a.out: no such file or directory"), MISSING),
        (RUNSC.format("failed to load /job/a.out: permission denied"), NO_EXECUTABLE),
        (RUNSC.format("failed to load /job/a.out: too many symbolic links encountered"), CIRCLE),
        (RUNSC.format("failed to load /job/a.out: exec format error"), NO_PROGRAM),
        (RUNSC.format("failed to load /job/a.out: bad address"), "it is not a complete program"),
        ('exec: "/job/a.out": permission denied', NO_EXECUTABLE),
    ],
)
def test_a_program_below_job_that_cannot_be_executed_is_the_students_failure(text: str, why: str) -> None:
    reason = students_fault(text, program(), [])

    assert reason is not None
    assert reason.startswith(f"/job/a.out cannot be started: {why}")


@pytest.mark.parametrize(
    ("name", "directory", "path"),
    [
        ("/job/a.out", "/", ""),
        ("//job//./a.out", "/", ""),
        ("/job/../job/a.out", "/", ""),
        ("/opt/../job/a.out", "/", ""),
        ("./a.out", "/job", ""),
        ("build/a.out", "/job/", ""),
        ("job/a.out", "/", ""),
        ("../job/a.out", "/srv", ""),
        ("/proc/self/root/job/a.out", "/", ""),
        ("/proc/1/cwd/a.out", "/job", ""),
        ("a.out", "/", "/usr/bin:/job/bin"),
        ("a.out", "/job", "/usr/bin:."),
        ("a.out", "/job", "/usr/bin:"),
        ("/job", "/", ""),
    ],
)
def test_every_way_to_write_a_path_below_job(name: str, directory: str, path: str) -> None:
    subject = program(name, directory, path)
    text = RUNC.format(f'exec: "{name}": executable file not found in $PATH, no such file or directory')

    assert subject.is_below_job
    assert students_fault(text, subject, []) is not None


@pytest.mark.parametrize(
    ("name", "directory", "path"),
    [
        ("/bin/sh", "/job", ""),
        ("/jobs/a.out", "/", ""),
        ("/job/../bin/sh", "/", ""),
        ("./a.out", "/", ""),
        ("a.out", "/job", "/usr/bin:/bin"),
        ("a.out", "/job", ""),
        ("", "/", ""),
    ],
)
def test_a_program_of_the_image_is_not_the_students(name: str, directory: str, path: str) -> None:
    text = RUNC.format(f'exec: "{name}": stat {name}: no such file or directory: unknown')
    assert students_fault(text, program(name, directory, path), []) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        RUNC.format("unable to apply cgroup configuration: mkdir /sys/fs/cgroup/x: no such file or directory"),
        RUNC.format('error mounting "proc" to rootfs at "/proc": permission denied'),
        "the container engine is shutting down",
        RUNC.format('exec: "/job/a.out": the disk is on fire'),
    ],
)
def test_another_error_is_not_the_students(text: str) -> None:
    assert students_fault(text, program(), []) is None


def test_the_program_follows_from_the_stage_and_the_image() -> None:
    config = {"Entrypoint": ["run"], "Cmd": ["x"], "Env": ["A=1", "PATH=/job/bin"], "WorkingDir": "/srv"}
    own: dict[str, Any] = {"entrypoint": None, "environment": {}}

    assert Program.of(own, config) == Program("run", "/srv", "/job/bin")
    assert Program.of(own, {"Cmd": ["x"]}) == Program("x", "/", "")
    assert Program.of(own, {}) == Program("", "/", "")
    stage = {"entrypoint": ["./a"], "environment": {"PATH": "/bin"}, "working_dir": "/job"}
    assert Program.of(stage, config) == Program("./a", "/job", "/bin")


def ran(code: int = 1, **more: Any) -> StageRun:
    return replace(
        StageRun(code, None, oom_killed=False, started_at=T0, finished_at=T0, output="", output_bytes=9), **more
    )


LATE = [
    ("exec {}: no such file or directory", MISSING),
    ("exec {}: exec format error", NO_PROGRAM),
    ("standard_init_linux.go:228: exec user process caused: exec format error", NO_PROGRAM),
    ('standard_init_linux.go:211: exec user process caused "no such file or directory"', MISSING),
    ("[FATAL tini (7)] exec {} failed: Permission denied", NO_EXECUTABLE),
    (
        '{{"msg":"exec container process (missing dynamic library?) `{}`: No such file or directory","level":"error"}}',
        MISSING,
    ),
    ('{{"msg":"exec container process `{}`: Too many levels of symbolic links","level":"error"}}', CIRCLE),
]


@pytest.mark.parametrize(("printed", "why"), LATE)
@pytest.mark.parametrize("code", [1, 126, 127, 255])
def test_a_program_that_a_started_container_cannot_execute(printed: str, why: str, code: int) -> None:
    ours = with_late_fault(ran(code), f"{STAMP}{printed.format('/job/a.out')}\n", program(), [])
    theirs = with_late_fault(ran(code), f"{STAMP}{printed.format('/opt/run')}\n", program("/opt/run"), [])

    assert (ours.not_started, ours.suspicion) == (f"/job/a.out cannot be started: {why}", "")
    assert (theirs.not_started, theirs.suspicion) == ("", f"/opt/run cannot be started: {why}")


@pytest.mark.parametrize(
    ("run", "printed"),
    [
        (ran(2), "exec /job/a.out: exec format error"),
        (ran(output_bytes=100_000), "exec /job/a.out: exec format error"),
        (ran(127, killed_for=KilledFor.TIME), "exec /job/a.out: exec format error"),
        (ran(), "exec /job/another: exec format error"),
        (ran(), "exec /job/a.out: ouch"),
        (ran(), "hello"),
        (ran(), ""),
    ],
)
def test_other_output_changes_nothing(run: StageRun, printed: str) -> None:
    assert with_late_fault(run, f"{STAMP}{printed}\n", program(), []) is run


@pytest.fixture
def no_programs(tmp_path: Path) -> Iterator[Path]:
    """A file system in which no program can be executed."""
    place = tmp_path / "no-programs"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,size=64k", "none", place], check=True)
    yield place
    detach(place)


def test_a_host_that_executes_nothing_in_a_jobs_directory_is_not_the_students_failure(no_programs: Path) -> None:
    mounts = [{"Target": "/job", "Source": str(no_programs)}]
    denied = 'exec: "/job/a.out": permission denied'
    late = with_late_fault(ran(), f"{STAMP}exec /job/a.out: permission denied\n", program(), mounts)

    assert students_fault(denied, program(), mounts) is None
    assert (late.not_started, late.suspicion != "") == ("", True)


@pytest.mark.parametrize(("reason", "code"), [(f"x: {MISSING}", NOT_FOUND), (f"x: {NO_EXECUTABLE}", NOT_EXECUTABLE)])
def test_a_stage_that_was_not_started_shows_the_reason_in_its_log(reason: str, code: int) -> None:
    run = never_started(Stage(image="x"), reason)
    assert (run.exit_code, run.state["ExitCode"], run.not_started, list(run.streams)) == (code, code, reason, [(0, 1)])
    assert run.output.endswith(f"Z {reason}\n")
    assert never_started(Stage(image="x", logs=False), reason).output == ""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    made = tmp_path / "job"
    (made / "directory" / "inside").mkdir(parents=True)
    (made / "file").touch()
    (made / "loop").symlink_to("loop")
    (made / "long").symlink_to("loop")
    (made / "link").symlink_to("directory")
    (made / "out").symlink_to("/etc")
    os.mkfifo(made / "fifo")
    return made


@pytest.mark.parametrize(
    ("path", "problem", "is_certain"),
    [
        ("file", "not a directory", True),
        ("fifo", "not a directory", True),
        ("file/below", "not a directory", True),
        ("directory/inside/../../file", "not a directory", True),
        ("loop", CIRCLE, True),
        ("long/below", CIRCLE, True),
        ("link", "a part of the path is a link", False),
        ("out/below", "a part of the path is a link", False),
        ("x" * 300, "file name too long", True),
    ],
)
def test_an_obstacle_in_a_jobs_directory(job: Path, path: str, problem: str, *, is_certain: bool) -> None:
    found = obstacle(job, path)
    assert found is not None
    assert (found.problem, found.is_certain) == (problem, is_certain)


@pytest.mark.parametrize("path", ["directory", "directory/inside", "missing", "directory/missing/below"])
def test_a_directory_and_a_missing_path_are_no_obstacle(job: Path, path: str) -> None:
    assert obstacle(job, path) is None


@pytest.mark.parametrize(
    ("directory", "text", "is_students"),
    [
        ("/job/file", "cannot read client sync file: EOF", True),
        ("/job/loop", "cannot read client sync file: EOF", True),
        ("/job/link", "chdir /job/link: not a directory", True),
        ("/job/link", "the engine is broken", False),
        ("/job/directory", "chdir /job/directory: the engine is broken", False),
        ("/job", "chdir /job: not a directory", False),
        ("/srv/file", "chdir /srv/file: not a directory", False),
    ],
)
def test_a_working_directory_below_job_that_a_student_has_replaced(
    job: Path, directory: str, text: str, *, is_students: bool
) -> None:
    mounts = [{"Target": "/job", "Source": str(job)}]
    reason = students_fault(text, program("/bin/sh", directory), mounts)
    assert (reason is not None) is is_students
    assert not reason or reason.startswith(f"{directory} cannot be the working directory: ")

"""Jobs of trusted and untrusted stages, on the fake: the files that a stage sees, and those that it leaves."""

import asyncio
import contextlib
import itertools
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_containers import FakeContainers
from harness import until

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase, Outcome
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import Graded, grade
from broadway.grader.grading.scores import MAX_REFUSED, MAX_SIZE
from broadway.grader.grading.workspace import Workspace, workspace
from broadway.grader.ports import ContainerError, KilledFor, Labels, Mount, Size, StageRun, Upcoming
from broadway.grader.sandbox.mounts import may_mount, mount_memory
from broadway.grader.sandbox.process_identity import own_identity
from broadway.grader.sandbox.tree import Bounds
from broadway.grader.worker.orphans import Orphans

Act = Callable[[dict[str, Path]], None]
LABELS = Labels("g", "life", "job", "execution", 0)


@dataclass
class Acting(FakeContainers):
    """Stages that run a function on their mounts, which it gets by target."""

    acts: list[Act] = field(default_factory=list)
    seen: list[list[Mount]] = field(default_factory=list)

    prepared: list[Upcoming] = field(default_factory=list)
    dismissed: list[Upcoming] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def run(
        self, stage: Stage, *, mounts: Sequence[Mount], labels: Labels, upcoming: Upcoming | None = None
    ) -> StageRun:
        self.seen.append(list(mounts))
        if upcoming:
            self.prepared.append(upcoming)
        if labels.stage < len(self.acts):
            self.acts[labels.stage]({mount.target: mount.source for mount in mounts})
        return await super().run(stage, mounts=mounts, labels=labels)

    async def dismiss(self, upcoming: Upcoming) -> None:
        self.dismissed.append(upcoming)


def trusted(**more: Any) -> dict[str, Any]:
    return {"image": "x", "entrypoint": ["exit", "0"], **more}


def untrusted(**more: Any) -> dict[str, Any]:
    return trusted(untrusted=True, **more)


async def _graded(jobs: Path, containers: FakeContainers, *stages: dict[str, Any], size: Size | None = None) -> Graded:
    """Grade a job as a grader of its own, which leaves no directory behind."""
    with contextlib.closing(Directories(jobs, size or Size())) as directories:
        graded = await grade(stages, containers=containers, directories=directories, labels=LABELS)
    assert list(jobs.glob("*")) == []
    return graded


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    async def run(containers: FakeContainers, *stages: dict[str, Any]) -> Graded:
        return await _graded(tmp_path / "jobs", containers, *stages)

    return run


def nothing(_: dict[str, Path]) -> None:
    pass


def submitted(seen: dict[str, Path]) -> None:
    (seen["/job"] / "submission").mkdir()
    (seen["/job"] / "submission" / "main.c").write_text("int main;")


Run = Callable[..., Any]


@dataclass
class Pulling(FakeContainers):
    """An engine whose pulls do not end."""

    pulls: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        super().__init__()

    async def ensure_images(self, images: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        self.pulls.set()
        await asyncio.sleep(float("inf"))
        return {}


class Broken(FakeContainers):
    """An engine that breaks when a stage is stopped."""

    async def run(self, stage: Stage, *, labels: Labels, **more: Any) -> StageRun:
        run = await super().run(stage, labels=labels, **more)
        if run.killed_for is KilledFor.CANCEL:
            raise ContainerError("did not end when killed", phase=FaultPhase.WAIT, retryable=True)
        return run


async def stopped(
    tmp_path: Path, containers: FakeContainers, when: Callable[[], Any], *stages: dict[str, Any]
) -> Graded:
    """Grade a job that is stopped once a condition holds."""
    labels = replace(LABELS, stop=asyncio.Event())
    assert labels.stop
    with contextlib.closing(Directories(tmp_path / "jobs", Size())) as directories:
        grading = asyncio.create_task(grade(stages, containers=containers, directories=directories, labels=labels))
        await until(when)
        labels.stop.set()
        return await grading


async def test_a_job_that_is_stopped_keeps_the_output_so_far_and_starts_no_further_stage(tmp_path: Path) -> None:
    containers = Acting()
    stages = [trusted(entrypoint=["print", "first"]), trusted(entrypoint=["print-and-hang", "second"]), trusted()]
    graded = await stopped(tmp_path, containers, lambda: len(containers.started) == 2, *stages)

    assert (graded.outcome, graded.reason) == (Outcome.CANCELLED, "stage 2 of 3: cancelled while it ran")
    assert [line.partition(" ")[2] for line in graded.stdout.splitlines()] == ["first", "second"]
    assert [(each.success, list(each.streams)) for each in graded.results] == [(True, [(1, 1)]), (False, [(1, 1)])]
    assert len(containers.started) == 2
    assert [each.labels.stage for each in containers.dismissed] == [2]


async def test_a_job_that_is_stopped_before_its_stages_ends_at_once(tmp_path: Path) -> None:
    containers = Pulling()
    graded = await stopped(tmp_path, containers, containers.pulls.is_set, trusted())

    assert (graded.outcome, graded.reason) == (Outcome.CANCELLED, "cancelled before stage 1 of 1")
    assert (graded.results, graded.stdout, containers.started) == ([], "", [])


async def test_an_engine_that_fails_to_stop_a_stage_is_no_fault_of_the_job(tmp_path: Path) -> None:
    containers = Broken()
    stages = [trusted(entrypoint=["print", "first"]), trusted(entrypoint=["hang"])]
    graded = await stopped(tmp_path, containers, lambda: len(containers.started) == 2, *stages)

    assert (graded.outcome, graded.fault_phase) == (Outcome.CANCELLED, None)
    assert graded.stdout.endswith(" first\n")


@pytest.mark.parametrize("bad", [{"timeout": -1}, {"memory": "lots"}, {"surprise": 1}, {"read": ["a"]}])
async def test_an_invalid_stage_is_an_infrastructure_error(run: Run, bad: dict[str, Any]) -> None:
    graded = await run(FakeContainers(), trusted(**bad))

    assert (graded.outcome, graded.fault_phase) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.CREATE)
    assert next(iter(bad)) in graded.reason
    assert not graded.retryable


async def test_the_next_stage_is_announced_unless_its_mounts_depend_on_the_one_before(run: Run) -> None:
    acting = Acting(acts=[submitted])
    await run(acting, trusted(), untrusted(read=["submission"], write=["out"]), trusted(), trusted())

    assert [each.labels.stage for each in acting.prepared] == [2, 3]
    assert [m.target for m in acting.prepared[0].mounts] == ["/job", "/job/out"]
    assert acting.dismissed == []


FAILS: dict[str, Any] = {"entrypoint": ["exit", "1"]}
BREAKS: dict[str, Any] = {"entrypoint": ["fault", "start"]}
SCORES_NOTHING: dict[str, Any] = {"results": "results.json"}


@pytest.mark.parametrize("ending", [FAILS, BREAKS, SCORES_NOTHING], ids=["fails", "breaks", "scores nothing"])
async def test_an_announced_stage_that_does_not_run_is_dismissed(run: Run, ending: dict[str, Any]) -> None:
    acting = Acting()
    await run(acting, trusted(), trusted(**ending), trusted())

    assert [each.labels.stage for each in acting.prepared] == [1, 2]
    assert [each.labels.stage for each in acting.dismissed] == [2]


async def test_results_of_stages_before_a_fault_are_kept(run: Run) -> None:
    prints: dict[str, Any] = {"entrypoint": ["print", "so far"]}
    graded = await run(FakeContainers(), trusted(**prints), trusted(), trusted(**BREAKS), trusted())

    assert graded.outcome is Outcome.INFRASTRUCTURE_ERROR
    assert [(result.success, result.state is not None) for result in graded.results] == [
        (True, True),
        (True, True),
        (False, False),
    ]
    assert graded.results[0].streams == ((1, 1),)
    assert graded.stdout.endswith("Z so far\nThe container crashed")


async def test_an_untrusted_stage_sees_only_its_declared_paths(run: Run) -> None:
    acting = Acting(acts=[submitted])
    await run(acting, trusted(), untrusted(read=["submission"], write=["out"]), trusted())

    assert [[(m.target, m.read_only) for m in mounts] for mounts in acting.seen] == [
        [("/job", False), ("/job/out", False)],
        [("/job/submission", True), ("/job/out", False)],
        [("/job", False), ("/job/out", False)],
    ]


async def test_later_stages_see_the_files_of_an_untrusted_stage(run: Run) -> None:
    found: list[str] = []

    def write(seen: dict[str, Path]) -> None:
        (seen["/job/out"] / "answer").write_text("42")

    def read(seen: dict[str, Path]) -> None:
        found.append((seen["/job/out"] / "answer").read_text())

    await run(Acting(acts=[write, read, read]), untrusted(write=["out"]), untrusted(read=["out"]), trusted())

    assert found == ["42", "42"]


def tricks(seen: dict[str, Path]) -> None:
    out = seen["/job/out"]
    (out / "kept").write_text("fine")
    (out / "link").symlink_to("/etc/passwd")
    (out / "dangling").symlink_to("nowhere")
    (out / "directory").symlink_to("/etc")
    os.mkfifo(out / "fifo")
    (out / "set-id").write_text("")
    (out / "set-id").chmod(0o6755)
    (out / "two").write_text("")
    (out / "one").hardlink_to(out / "two")
    deep = out / "deep"
    deep.mkdir()
    (deep / "-rf").symlink_to("/")
    (deep / "new\nline").symlink_to("/")


async def test_files_of_an_untrusted_stage_are_made_harmless(run: Run) -> None:
    modes: dict[str, int] = {}

    def collect(seen: dict[str, Path]) -> None:
        for path in sorted(seen["/job/out"].rglob("*")):
            modes[str(path.relative_to(seen["/job/out"]))] = path.lstat().st_mode

    await run(Acting(acts=[tricks, collect]), untrusted(write=["out"]), trusted())

    assert sorted(modes.keys() - {"one", "two"}) == ["deep", "kept", "set-id"]
    assert len(modes) == 4, "of two names of one file one is left"
    assert stat.S_IMODE(modes["set-id"]) == 0o755


async def test_a_judge_can_read_the_files_of_an_untrusted_stage(run: Run) -> None:
    modes: dict[str, int] = {}

    def hide(seen: dict[str, Path]) -> None:
        for name in ("a/deep/secret", "b/program"):
            path = seen["/job/out/of/it"] / name
            path.parent.mkdir(parents=True)
            path.touch(mode=0o700 if path.name == "program" else 0o600)
        (seen["/job/out/of/it"] / "a" / "deep").chmod(0)
        (seen["/job/out/of/it"] / "a").chmod(0)

    def collect(seen: dict[str, Path]) -> None:
        for path in (seen["/job/out/of/it"], *seen["/job/out/of/it"].rglob("*"), seen["/job"] / "out"):
            modes[path.name] = stat.S_IMODE(path.stat().st_mode)

    before = os.umask(0o077)
    try:
        await run(Acting(acts=[hide, collect]), untrusted(write=["out/of/it"]), trusted())
    finally:
        os.umask(before)

    modes["it"] = modes.pop("0")
    assert {name: mode & 0o055 for name, mode in modes.items()} == {
        **dict.fromkeys(("out", "it", "a", "deep", "b", "program"), 0o055),
        "secret": 0o044,
    }


@pytest.mark.skipif(not may_mount(), reason="only a process that may mount can put another file system there")
async def test_a_failed_check_of_a_stages_files_is_an_infrastructure_error(run: Run) -> None:
    def mount(seen: dict[str, Path]) -> None:
        (seen["/job/out"] / "mount").mkdir()
        mount_memory(seen["/job/out"] / "mount", size=4096, inodes=10, mode=0o755)

    graded = await run(Acting(acts=[mount]), untrusted(write=["out"]), trusted())

    assert (graded.outcome, graded.retryable) == (Outcome.INFRASTRUCTURE_ERROR, True)
    assert graded.reason == "collect: the stage's files cannot be read"


async def test_more_files_than_can_be_checked_are_the_students_failure(tmp_path: Path) -> None:
    def litter(seen: dict[str, Path]) -> None:
        for number in range(60):
            (seen["/job/out"] / str(number)).mkdir()
            (seen["/job/out"] / str(number) / "set-id").touch(0o4755)

    stages = [untrusted(write=["out"]), trusted()]
    graded = await _graded(tmp_path / "jobs", Acting(acts=[litter]), *stages, size=Size(files=100))

    assert graded.outcome is Outcome.FAILED
    assert graded.reason == "stage 1 of 2: write: out: too many files and directories, more than 100"


async def test_the_files_of_a_stage_that_failed_are_not_walked(run: Run) -> None:
    """No stage comes after it, and its files go with the workspace."""
    walked: list[str] = []

    def mount(seen: dict[str, Path]) -> None:
        walked.append("the stage ran")
        (seen["/job/out"] / "mount").mkdir()
        mount_memory(seen["/job/out"] / "mount", size=4096, inodes=10, mode=0o755)

    graded = await run(Acting(acts=[mount]), untrusted(write=["out"], entrypoint=["exit", "1"]), trusted())

    assert (graded.outcome, walked) == (Outcome.FAILED, ["the stage ran"])


def test_a_grader_without_rights_treats_unreadable_files_as_unsafe(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "hidden").mkdir(parents=True)
    (out / "hidden" / "link").symlink_to("/etc")
    program = (
        "import asyncio, os, pathlib, sys; from broadway.grader.grading import files; os.setuid(65534)\n"
        "from broadway.grader.sandbox.tree import Bounds\n"
        "asyncio.run(files.neutralise({'out': pathlib.Path(sys.argv[1])}, Bounds()))"
    )
    for path in (out / "hidden", out):
        os.chown(path, 65534, 65534)
    (out / "hidden").chmod(0)
    for parent in (*reversed(out.parents), out):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    done = subprocess.run([sys.executable, "-c", program, str(out)], capture_output=True, text=True, check=False)

    assert "UnsafeFileError: out: contains something that cannot be read" in done.stderr


async def test_directories_may_be_deeper_than_the_longest_path(run: Run) -> None:
    def dig(seen: dict[str, Path]) -> None:
        before = Path.cwd()
        os.chdir(seen["/job/out"])
        for _ in range(3000):
            Path("ddd").mkdir()
            os.chdir("ddd")
        Path("link").symlink_to("/etc")
        os.chdir(before)

    assert (await run(Acting(acts=[dig]), untrusted(write=["out"]), trusted())).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (nothing, "submission: does not exist"),
        (lambda seen: (seen["/job"] / "submission").symlink_to("/etc"), "submission: is neither"),
        (lambda seen: os.mkfifo(seen["/job"] / "submission"), "submission: is neither"),
    ],
    ids=["missing", "link", "fifo"],
)
async def test_a_path_that_is_no_file_or_directory_is_not_shown(run: Run, prepare: Act, reason: str) -> None:
    acting = Acting(acts=[prepare])
    graded = await run(acting, trusted(), untrusted(read=["submission"]))

    assert graded.outcome is Outcome.FAILED
    assert graded.reason.startswith(f"stage 2 of 2: read: {reason}")
    assert len(acting.seen) == 1


async def test_a_link_on_the_way_to_a_path_is_not_followed(run: Run) -> None:
    graded = await run(
        Acting(acts=[lambda seen: (seen["/job"] / "a").symlink_to("/etc")]), trusted(), untrusted(read=["a/passwd"])
    )

    assert graded.outcome is Outcome.FAILED
    assert "read: a/passwd: a part of the path is not a directory" in graded.reason


async def test_scores_of_a_trusted_stage(run: Run) -> None:
    def score(seen: dict[str, Path]) -> None:
        (seen["/job"] / "results.json").write_text('{"score": 8.5, "max_score": 10}')

    graded = await run(Acting(acts=[score]), trusted(results="results.json"))

    assert graded.outcome is Outcome.SUCCEEDED
    assert graded.results[0].entry()["scores"] == {
        "score": 8.5,
        "max_score": 10.0,
        "document": '{"score": 8.5, "max_score": 10}',
    }


async def test_the_results_of_all_stages_have_a_limit_together(run: Run) -> None:
    def score(seen: dict[str, Path]) -> None:
        (seen["/job"] / "results.json").write_text(
            json.dumps({"score": 1, "output": "\N{BULLET}" * 333_000}, ensure_ascii=False)
        )

    stages = [trusted(results="results.json")] * 3
    graded = await run(Acting(acts=[score] * 3), *stages)

    assert graded.outcome is Outcome.FAILED
    assert graded.reason == "stage 3 of 3: results: those of all stages together are larger than 4194304 characters"
    assert [result.success for result in graded.results] == [True, True, False]


async def test_a_refused_results_file_is_kept_for_the_staff(run: Run) -> None:
    def leave(seen: dict[str, Path]) -> None:
        (seen["/job"] / "results.json").write_text('{"score": "ten"}')

    graded = await run(Acting(acts=[leave]), trusted(results="results.json"))
    assert graded.outcome is Outcome.FAILED
    assert graded.results[0].entry()["refused_results"] == '{"score": "ten"}'


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (nothing, "results.json: does not exist"),
        (lambda path: path.write_text("nonsense"), "is no JSON: line 1, column 1"),
        (lambda path: path.symlink_to("/etc/passwd"), "results.json: is a link"),
        (lambda path: path.mkdir(), "results.json: is not a regular file"),
        (os.mkfifo, "results.json: is not a regular file"),
        (lambda path: path.write_text("x" * (2**20 + 1)), "results.json: is larger than 1048576 bytes"),
    ],
    ids=["missing", "nonsense", "link", "directory", "fifo", "large"],
)
async def test_invalid_results_fail_the_job(run: Run, leave: Callable[[Path], None], reason: str) -> None:
    def act(seen: dict[str, Path]) -> None:
        if leave is not nothing:
            leave(seen["/job"] / "results.json")

    graded = await run(Acting(acts=[act]), trusted(results="results.json"))

    assert graded.outcome is Outcome.FAILED
    assert graded.reason == f"stage 1 of 1: results: {reason}"
    assert graded.results[0].scores is None


async def test_no_scores_of_a_stage_that_failed(run: Run) -> None:
    def score(seen: dict[str, Path]) -> None:
        (seen["/job"] / "results.json").write_text('{"score": 1}')

    graded = await run(Acting(acts=[score]), trusted(results="results.json", entrypoint=["exit", "1"]))

    assert graded.results[0].scores is None


def _fits(directory: Path, number: int) -> bool:
    try:
        (directory / str(number)).touch()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not may_mount(), reason="only a process that may mount limits a directory's size")
async def test_a_workspace_has_limits(tmp_path: Path) -> None:
    directories = Directories(tmp_path / "jobs", Size(size=1024 * 1024, inodes=20))
    async with workspace(directories, []) as space:
        with pytest.raises(OSError, match="No space left"):
            (space.job / "large").write_bytes(bytes(2 * 1024 * 1024))
        (space.job / "large").unlink()
        fitting = itertools.takewhile(partial(_fits, space.job), range(30))
        assert 5 < len(list(fitting)) < 20

    directories.close()
    assert list((tmp_path / "jobs").iterdir()) == []


async def test_a_workspace_cannot_be_listed_by_other_users(tmp_path: Path) -> None:
    stages = [Stage.model_validate(untrusted(write=["a", "b/c"]))]
    directories = Directories(tmp_path / "jobs")
    async with workspace(directories, stages) as space:
        assert isinstance(space, Workspace)
        assert stat.S_IMODE(space.root.stat().st_mode) == 0o711
        assert sorted(space.written) == ["a", "b/c"]
        assert all((space.job / path).is_dir() for path in space.written)
    directories.close()


@dataclass
class Denying(FakeContainers):
    """Stages whose output says that the image has no program; ``truth`` is what the container says without a job."""

    truth: str = ""
    trials: list[Stage] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def run(
        self, stage: Stage, *, mounts: Sequence[Mount], labels: Labels, upcoming: Upcoming | None = None
    ) -> StageRun:
        ran = await super().run(stage, mounts=mounts, labels=labels, upcoming=upcoming)
        if mounts:
            return replace(ran, exit_code=1, suspicion=DENIAL)
        self.trials.append(stage)
        return replace(ran, suspicion=self.truth)


DENIAL = "exit cannot be started: it does not exist"


async def test_a_program_that_the_image_does_not_have_is_an_infrastructure_error(run: Run) -> None:
    graded = await run(Denying(truth=DENIAL), trusted(env={"TOKEN": "secret", "PATH": "/bin"}))

    assert (graded.outcome, graded.fault_phase) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.START)
    assert graded.reason == "start: image x, entrypoint ['exit', '0']: exit cannot be started: it does not exist"
    assert (graded.retryable, graded.image) == (False, "x")


@pytest.mark.parametrize("make", [trusted, untrusted])
async def test_a_student_who_only_says_so_has_failed(run: Run, make: Callable[..., dict[str, Any]]) -> None:
    denying = Denying()
    graded = await run(denying, trusted(), make(env={"TOKEN": "secret", "PATH": "/bin"}, entrypoint=["exit", "0", "x"]))

    assert (graded.outcome, graded.reason) == (Outcome.FAILED, "stage 1 of 2: exit code 1")
    (trial,) = denying.trials
    assert (trial.entrypoint, trial.env, trial.has_network) == (["exit"], {}, False)
    assert trial.privileged is False


@pytest.mark.parametrize(
    ("leave", "problem"),
    [
        (lambda job: (job / "a").rename(job / "b") and (job / "a").symlink_to("/etc"), "a part of the path is a link"),
        (lambda job: (job / "a").rename(job / "b") and (job / "a").touch(), "not a directory"),
    ],
)
async def test_a_stage_that_replaces_the_place_of_a_written_path_fails_its_job(
    run: Run, leave: Callable[[Path], Any], problem: str
) -> None:
    acting = Acting(acts=[lambda seen: leave(seen["/job"])])
    graded = await run(acting, trusted(), trusted(), trusted(), untrusted(write=["a/out"]))

    assert (graded.outcome, graded.reason) == (Outcome.FAILED, f"stage 2 of 4: write: a/out: {problem}")
    assert len(acting.seen) == 1


async def test_a_stage_that_removes_the_place_of_a_written_path_goes_on(run: Run) -> None:
    acting = Acting(acts=[lambda seen: (seen["/job"] / "a").rename(seen["/job"] / "b")])
    assert (await run(acting, trusted(), trusted(), untrusted(write=["a/out"]))).outcome is Outcome.SUCCEEDED


async def test_a_directory_without_a_mount_is_removed_in_slices_after_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadway.grader.grading.directories.may_mount", lambda: False)
    monkeypatch.setattr("broadway.grader.grading.directories.remove.__defaults__", (Bounds(entries=100),))

    def litter(seen: dict[str, Path]) -> None:
        for number in range(350):
            (seen["/job"] / str(number)).touch()

    jobs = tmp_path / own_identity()
    graded = await grade([trusted()], containers=Acting(acts=[litter]), directories=Directories(jobs), labels=LABELS)
    assert graded.outcome is Outcome.SUCCEEDED
    left = [_count(jobs)]
    while left[-1]:
        await Orphans(FakeContainers(), tmp_path, jobs).reap()
        left.append(_count(jobs))

    assert left == [252, 153, 54, 0], "what the job left does not keep its slot"
    assert list(jobs.iterdir()) == []


def _count(jobs: Path) -> int:
    """Return the number of files and directories in the workspaces, without their roots."""
    return sum(1 for _ in jobs.glob("*/**/*"))


async def test_the_beginning_of_a_results_file_that_is_too_large_is_kept_as_text(run: Run) -> None:
    def leave(seen: dict[str, Path]) -> None:
        (seen["/job"] / "results.json").write_bytes(b"\xff\xfe" * MAX_SIZE)

    graded = await run(Acting(acts=[leave]), trusted(results="results.json"))

    kept = graded.results[0].entry()["refused_results"]
    assert kept == "\N{REPLACEMENT CHARACTER}" * MAX_REFUSED
    assert json.loads(json.dumps(kept)) == kept

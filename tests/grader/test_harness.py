"""Stages with a kind, on the fake: what an autograder of another system finds, and what its results decide."""

import json
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_containers import FakeContainers

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase, Outcome
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import Graded, grade
from broadway.grader.ports import Labels, Limits, Mount, StageRun, Upcoming
from broadway.grader.sandbox.profile import container_options

LABELS = Labels("g", "l", "j", "e", 0)
ENV = {
    "BROADWAY_COURSE": "cs101",
    "BROADWAY_ASSIGNMENT": "hw1",
    "BROADWAY_STUDENT": "ada@example.edu",
    "BROADWAY_SUBMITTED_AT": "2026-11-30T12:00:00+01:00",
    "GRADING_JOB_ID": "0123",
}
RESULTS = '{"score": 1, "tests": [{"score": 1, "max_score": 2}]}'
FRACTION = '{"score": 0.5}'

Act = Callable[[dict[str, Path]], None]
Run = Callable[..., Any]


@dataclass
class Acting(FakeContainers):
    """Stages that run a function on their mounts, by target."""

    acts: Sequence[Act]
    seen: list[list[str]] = field(default_factory=list)
    announced: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def run(
        self, stage: Stage, *, mounts: Sequence[Mount], labels: Labels, upcoming: Upcoming | None = None
    ) -> StageRun:
        self.seen.append(sorted(mount.target for mount in mounts))
        if upcoming:
            self.announced.append(upcoming.labels.stage)
        self.acts[labels.stage]({mount.target: mount.source for mount in mounts})
        return await super().run(stage, mounts=mounts, labels=labels)


def gradescope(code: str = "0", **more: Any) -> dict[str, Any]:
    return {"image": "x", "kind": "gradescope", "entrypoint": ["exit", code], "env": ENV, **more}


def prairielearn(code: str = "0") -> dict[str, Any]:
    return {**gradescope(code), "kind": "prairielearn"}


def ordinary(**more: Any) -> dict[str, Any]:
    return {"image": "x", "entrypoint": ["exit", "0"], **more}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    directories = Directories(tmp_path / "e")

    async def run(stages: Sequence[dict[str, Any]], *acts: Act) -> tuple[Graded, Acting]:
        acting = Acting(acts)
        graded = await grade(stages, containers=acting, directories=directories, labels=LABELS)
        return graded, acting

    return run


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def nothing(_: dict[str, Path]) -> None:
    pass


def submits(seen: dict[str, Path]) -> None:
    (seen["/job"] / "submission").mkdir()
    (seen["/job"] / "submission" / "main.py").write_text("pass")


def writes(text: str, directory: str = "/autograder/results") -> Act:
    def act(seen: dict[str, Path]) -> None:
        (seen[directory] / "results.json").write_text(text)

    return act


def report(graded: Graded) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(graded.results[-1].entry()))["report"]["report"]
    return found


async def test_an_autograder_finds_what_the_harness_of_gradescope_gives_it(run: Run) -> None:
    found: dict[str, Any] = {}

    def grades(seen: dict[str, Path]) -> None:
        found["files"] = names(seen["/autograder/submission"])
        found["metadata"] = json.loads(seen["/autograder/submission_metadata.json"].read_text())
        found["results"] = (
            stat.S_IMODE(seen["/autograder/results"].stat().st_mode),
            names(seen["/autograder/results"]),
        )
        writes(RESULTS)(seen)

    graded, acting = await run([ordinary(), gradescope("1")], submits, grades)

    assert (graded.outcome, graded.reason) == (Outcome.SUCCEEDED, ""), "the exit code does not matter"
    assert (report(graded)["source"], report(graded)["score"], report(graded)["max"]) == ("gradescope", "1", "2")
    assert acting.seen[1] == ["/autograder/results", "/autograder/submission", "/autograder/submission_metadata.json"]
    assert acting.announced == [], "the submission is looked for when the stages before have ended"
    assert (found["files"], found["results"]) == (["main.py"], (0o700, []))
    metadata = found["metadata"]
    assert metadata["created_at"] == "2026-11-30T11:00:00.000000+00:00"
    assert metadata["assignment"]["title"] == "hw1"
    assert metadata["assignment"]["id"] == metadata["assignment_id"]
    assert [(user["email"], user["name"]) for user in metadata["users"]] == [("ada@example.edu", "ada@example.edu")]
    assert metadata["previous_submissions"] == []


async def test_a_job_without_files_has_an_empty_submission(run: Run) -> None:
    def grades(seen: dict[str, Path]) -> None:
        assert names(seen["/autograder/submission"]) == []
        writes(RESULTS)(seen)

    graded, _ = await run([gradescope()], grades)
    assert graded.outcome is Outcome.SUCCEEDED


def links(seen: dict[str, Path]) -> None:
    (seen["/job"] / "submission").symlink_to("/etc")


def writes_a_file(seen: dict[str, Path]) -> None:
    (seen["/job"] / "submission").write_text("")


@pytest.mark.parametrize("puts", [links, writes_a_file], ids=["a link", "a file"])
async def test_a_submission_that_is_no_directory_is_not_given_to_an_autograder(run: Run, puts: Act) -> None:
    graded, acting = await run([ordinary(), gradescope()], puts, nothing)

    assert graded.outcome is Outcome.FAILED
    assert "submission: is" in graded.reason
    assert len(acting.seen) == 1


def links_results(seen: dict[str, Path]) -> None:
    (seen["/autograder/results"] / "results.json").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (nothing, "results/results.json: does not exist"),
        (writes(""), "results/results.json: "),
        (links_results, "results/results.json: is a link"),
    ],
    ids=["missing", "empty", "a link"],
)
async def test_results_that_are_missing_or_broken_are_an_error_of_the_autograder(
    run: Run, act: Act, reason: str
) -> None:
    graded, _ = await run([gradescope()], act)

    assert (graded.outcome, graded.fault_phase) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.COLLECT)
    assert reason in graded.reason
    assert not graded.retryable


async def test_results_of_a_stage_that_ran_too_long_are_kept_and_do_not_count(run: Run) -> None:
    slow = gradescope(entrypoint=["hang"], timeout=0.1)
    graded, _ = await run([slow], writes(RESULTS))

    assert graded.outcome is Outcome.TIMED_OUT
    entry = json.loads(json.dumps(graded.results[-1].entry()))
    assert "report" not in entry["report"]
    assert [file["path"] for file in entry["report"]["files"]] == ["results/results.json"]


async def test_each_stage_with_a_kind_has_results_of_its_own(run: Run) -> None:
    graded, acting = await run([gradescope(), gradescope(), ordinary()], writes(RESULTS), nothing, nothing)

    assert graded.outcome is Outcome.INFRASTRUCTURE_ERROR, "the results of the first do not count for the second"
    assert len(acting.seen) == 2


async def test_an_autograder_of_prairielearn_counts_after_exit_code_0_only(run: Run) -> None:
    grades = writes(FRACTION, "/grade/results")
    graded, acting = await run([prairielearn()], grades)
    assert (graded.outcome, report(graded)["score"], report(graded)["max"]) == (Outcome.SUCCEEDED, "0.5", "1")
    assert acting.seen == [["/grade/data/data.json", "/grade/results", "/grade/student"]]

    graded, _ = await run([prairielearn("1")], grades)
    assert graded.outcome is Outcome.INFRASTRUCTURE_ERROR
    assert "exit code 1" in graded.reason


@pytest.mark.parametrize(("kind", "directory"), [("gradescope", "/autograder"), ("prairielearn", "/grade")])
def test_an_autograder_runs_as_root_in_its_directory_without_network(kind: str, directory: str) -> None:
    stage = Stage.model_validate({"image": "x", "kind": kind})
    options = container_options(stage, LABELS, limits=Limits(), mounts=[], hosts=None)

    assert (options["user"], options["working_dir"], options["network_disabled"]) == ("0:0", directory, True)
    assert options["host_config"]["security_opt"] == ["no-new-privileges:true"]
    assert not options["tty"]

"""Reports of stages, on the fake: which files are read, what decides, and errors of the autograder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fake_containers import FakeContainers

from broadway.domain.assignment import Stage
from broadway.domain.job import FaultPhase, Outcome
from broadway.domain.originals import MAX_FILE, MAX_FILES, Reported, unpacked
from broadway.domain.report import Status
from broadway.domain.result import StageResult
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import Graded, grade
from broadway.grader.ports import Labels, Mount, StageRun, Upcoming

GRADESCOPE = {"format": "gradescope", "path": "results.json"}
JUNIT = {"format": "junit", "path": "out/TEST-*.xml"}
CASE = '<testsuite><testcase name="{}"/></testsuite>'
Act = Callable[[Path], None]
Run = Callable[..., Any]


@dataclass
class Leaving(FakeContainers):
    """Stages that leave files, and print lines with the given streams."""

    act: Act
    lines: Sequence[tuple[int, str]] = ()

    def __post_init__(self) -> None:
        super().__init__()

    async def run(
        self, stage: Stage, *, mounts: Sequence[Mount], labels: Labels, upcoming: Upcoming | None = None
    ) -> StageRun:
        self.act(next(mount.source for mount in mounts if mount.target == "/job"))
        run = await super().run(stage, mounts=mounts, labels=labels, upcoming=upcoming)
        text = "".join(f"2026-11-30T12:00:00.000000000Z {line}\n" for _, line in self.lines)
        return replace(run, output=text, streams=[(stream, 1) for stream, _ in self.lines])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    directories = Directories(tmp_path / "e")

    async def run(act: Act, results: Any, *, lines: Sequence[tuple[int, str]] = (), **more: Any) -> Graded:
        stage = {"image": "x", "entrypoint": ["exit", "0"], "results": results, **more}
        return await grade(
            [stage],
            containers=Leaving(act, lines),
            directories=directories,
            labels=Labels("g", "l", "j", "e", 0),
        )

    return run


def writing(content: str | bytes, path: str = "results.json") -> Act:
    def act(job: Path) -> None:
        (job / path).parent.mkdir(parents=True, exist_ok=True)
        (job / path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return act


def nothing(_: Path) -> None:
    pass


def entry(graded: Graded) -> dict[str, Any]:
    found: dict[str, Any] = graded.results[-1].entry()
    return json.loads(json.dumps(found))


def reported(graded: Graded) -> Reported:
    return Reported.model_validate(entry(graded)["report"])


async def test_a_report_is_sent_with_its_original_file(run: Run) -> None:
    text = json.dumps({"score": 4.5, "max_score": 5})
    graded = await run(writing(text), GRADESCOPE)
    assert (graded.outcome, graded.reason) == (Outcome.SUCCEEDED, "")
    found = reported(graded)
    assert unpacked(found.files[0].compressed()).decode() == text
    assert entry(graded)["scores"] == {"score": 4.5, "max_score": 5.0, "document": None}  # for earlier versions
    note = StageResult.read(entry(graded)).note
    assert note is not None
    assert (note.source, note.gradable, note.problem) == ("gradescope", True, "")


@pytest.mark.parametrize("code", ["1", "137"])
async def test_the_report_decides_after_another_exit_code(run: Run, code: str) -> None:
    graded = await run(writing('{"score": 0}'), GRADESCOPE, entrypoint=["exit", code])
    assert (graded.outcome, graded.reason, graded.results[0].success) == (Outcome.SUCCEEDED, "", True)
    assert reported(graded).report is not None


@pytest.mark.parametrize(
    ("act", "results", "more", "problem"),
    [
        (nothing, GRADESCOPE, {}, "results.json: does not exist"),
        (nothing, GRADESCOPE, {"entrypoint": ["exit", "1"]}, "results.json: does not exist"),
        (nothing, JUNIT, {}, "out/TEST-*.xml: no file matches"),
        (writing(""), GRADESCOPE, {}, "results.json: line 1, column 1: should be JSON"),
        (writing('{"score": NaN}'), GRADESCOPE, {}, "results.json: should be JSON, which has no NaN"),
        (writing("x" * (MAX_FILE + 1)), GRADESCOPE, {}, f"results.json: is larger than {MAX_FILE} bytes"),
        (
            writing('{"score": 1}'),
            {"format": "prairielearn", "path": "results.json"},
            {"entrypoint": ["exit", "2"]},
            "the stage ended with exit code 2; results of prairielearn count after 0 only",
        ),
        (lambda job: (job / "results.json").symlink_to("/etc/passwd"), GRADESCOPE, {}, "results.json: is a link"),
        (nothing, {"format": "autolab"}, {}, "stdout: the last line: should be JSON with the scores"),
    ],
)
async def test_results_that_are_missing_or_broken_are_an_error_of_the_autograder(
    run: Run, act: Act, results: Any, more: dict[str, Any], problem: str
) -> None:
    graded = await run(act, results, **more)
    assert graded.outcome is Outcome.INFRASTRUCTURE_ERROR
    assert graded.reason.startswith(f"stage 1 of 1: results: {problem}")
    assert (graded.fault_phase, graded.retryable, graded.may_be_of_grader) == (FaultPhase.COLLECT, False, False)
    assert "scores" not in entry(graded)  # no zero
    assert reported(graded).problem.startswith(problem)


async def test_a_broken_file_is_kept_and_so_is_the_output(run: Run) -> None:
    graded = await run(writing('{"score": "ten"}'), GRADESCOPE, lines=[(1, "Traceback")])
    assert unpacked(reported(graded).files[0].compressed()) == b'{"score": "ten"}'
    assert "Traceback" in graded.stdout


async def test_the_beginning_of_a_file_that_is_too_large_is_kept(run: Run) -> None:
    found = reported(await run(writing("x" * (MAX_FILE + 1)), GRADESCOPE))
    assert found.problem == f"results.json: is larger than {MAX_FILE} bytes; its beginning is kept"
    assert unpacked(found.files[0].compressed()) == b"x" * MAX_FILE


async def test_the_files_of_a_stage_that_broke_a_limit_are_kept_and_do_not_count(run: Run) -> None:
    graded = await run(writing('{"score": 1}'), GRADESCOPE, entrypoint=["hang"], timeout=0.01)
    assert graded.outcome is Outcome.TIMED_OUT
    found = reported(graded)
    assert (found.report, len(found.files)) == (None, 1)
    assert "scores" not in entry(graded)
    assert "report" not in entry(await run(nothing, GRADESCOPE, entrypoint=["hang"], timeout=0.01))


async def test_a_glob_takes_all_files_that_match_and_follows_no_link(run: Run) -> None:
    def act(job: Path) -> None:
        for name in ("TEST-b.xml", "TEST-a.xml", "other.xml"):
            writing(CASE.format(name), f"out/{name}")(job)
        writing(CASE.format("far"), "real/TEST-c.xml")(job)
        (job / "linked").symlink_to("real")
        (job / "out" / "TEST-of-tests.xml").mkdir()

    found = reported(await run(act, JUNIT)).report
    assert found is not None
    assert [test.name.body for test in found.tests] == ["TEST-a.xml", "TEST-b.xml"]
    several = reported(await run(act, {**JUNIT, "path": "*/TEST-*.xml"})).report
    assert several is not None
    assert [test.name.body for test in several.tests] == ["TEST-a.xml", "TEST-b.xml", "far"]


async def test_too_many_files_are_refused(run: Run) -> None:
    def act(job: Path) -> None:
        for number in range(MAX_FILES + 1):
            writing(CASE.format(number), f"out/TEST-{number}.xml")(job)

    assert (
        reported(await run(act, JUNIT)).problem
        == f"out/TEST-*.xml: {MAX_FILES + 1} files match, {MAX_FILES} are allowed"
    )


async def test_printed_results_are_those_of_stdout(run: Run) -> None:
    lines = [(1, "1..2"), (2, "not ok 1 - on stderr"), (1, "ok 1 - a"), (1, "ok 2 - b")]
    graded = await run(nothing, {"format": "tap", "points": [{"tests": "b", "points": 3}]}, lines=lines)
    report = reported(graded).report
    assert report is not None
    assert ([test.status for test in report.tests], report.max) == ([Status.PASSED] * 2, 4)
    assert reported(graded).files[0].path == "stdout"
    cut = await run(nothing, {"format": "tap"}, lines=[(1, "1..1"), (0, "cut"), (1, "ok 1")])
    assert cut.outcome is Outcome.INFRASTRUCTURE_ERROR
    assert "printed more than is kept" in cut.reason
    last = await run(nothing, {"format": "autolab"}, lines=[(1, '{"scores": {"A": 3}}'), (2, "done")])
    assert entry(last)["scores"]["score"] == 3

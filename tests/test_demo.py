"""The demo's two assignments: their programs without containers, their pipelines, and the demo's own parts."""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from broadway.cli.autograder_zip import write_context
from broadway.domain.assignment import AssignmentConfig
from broadway.domain.assignment_settings import AssignmentSettings
from broadway.domain.job import Outcome
from broadway.messages.resources.runs import PhaseView, RunDetail
from demo import __main__ as program
from demo import autograder, image, pipelines, progress, results, rootfs, stack, submissions
from demo.results import Row

EXPECTED = submissions.expected()
WORDS = submissions.expected(submissions.WORDS)
IMAGES = image.Images("solver", "judge")

# These submissions end by themselves, whatever this machine has; the other ones need a container.
HARMLESS = [
    student
    for student, each in EXPECTED.items()
    if each.score is not None and student != "cyrus29"  # which deletes /job
]
FIRST = {max(HARMLESS, key=lambda student: EXPECTED[student].score or 0), *HARMLESS[::4]}  # the others: `make faults`
CRASHING = ("samir19", "umut21")

ONE = [{"topic": "numbers", "expression": "1", "value": 1}]
SEED = {**os.environ, "SEED": pipelines.SEED}


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "questions")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script(monkeypatch, "judge")


def script(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Import a stage's script as it is imported in a container, and forget it afterwards."""
    monkeypatch.syspath_prepend(image.JUDGE)
    for each in ("reference", "questions", name):
        monkeypatch.delitem(sys.modules, each, raising=False)
    module = __import__(name)
    for each in ("reference", "questions", name):
        if each in sys.modules:
            monkeypatch.delitem(sys.modules, each)
    return module


def solved(job: Path, source: bytes, asked: list[str]) -> int:
    """Run the untrusted stage on a submission; return its exit code."""
    for each in ("submission", "answers"):
        (job / each).mkdir()
    (job / "submission" / "solution.py").write_bytes(source)
    (job / "questions.json").write_text(json.dumps(asked))
    command = [sys.executable, "-I", str(image.SOLVER / "solve.py"), "--job", str(job)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode


def points(report: dict[str, Any]) -> tuple[int, int]:
    return sum(test["score"] for test in report["tests"]), sum(test["max_score"] for test in report["tests"])


def test_every_submission_has_an_expected_result() -> None:
    for folder, expected, most in ((submissions.CALCULATOR, EXPECTED, 20), (submissions.WORDS, WORDS, 10)):
        assert {path.parent.name for path in folder.glob("*/*.py")} == expected.keys()
        assert {each.outcome for each in expected.values()} <= set(Outcome)
        assert all((each.score is None) != (each.outcome == Outcome.SUCCEEDED) for each in expected.values())
        assert max(each.score or 0 for each in expected.values()) == most
    assert len(EXPECTED) == 30
    assert WORDS.keys() <= EXPECTED.keys()
    assert pipelines.POINTS == {pipelines.CALCULATOR: 20, pipelines.WORDS: 10}


@pytest.mark.parametrize(
    "student", [pytest.param(each, marks=[] if each in FIRST else pytest.mark.long) for each in HARMLESS]
)
def test_submissions_have_the_expected_scores(student: str, tmp_path: Path, questions: ModuleType) -> None:
    asked = [case["expression"] for case in questions.cases(pipelines.SEED)]
    ((_, file),) = submissions.files(student)
    assert solved(tmp_path, file.read_bytes(), asked) == 0

    command = [sys.executable, str(image.JUDGE / "judge.py"), "--job", str(tmp_path)]
    subprocess.run(command, env=SEED, check=True, capture_output=True)

    found = json.loads((tmp_path / "results.json").read_text())
    assert points(found) == (EXPECTED[student].score, 20)
    assert [test["name"] for test in found["tests"] if "visibility" in test] == ["everything"]


@pytest.mark.parametrize("student", CRASHING)
def test_a_submission_that_crashes_fails_its_stage(student: str, tmp_path: Path) -> None:
    ((_, file),) = submissions.files(student)

    assert solved(tmp_path, file.read_bytes(), ["1"]) != 0


def test_a_seed_draws_the_same_questions_each_time_and_two_for_each_topic(questions: ModuleType) -> None:
    drawn = list(questions.cases("a seed"))
    assert drawn == list(questions.cases("a seed"))
    assert drawn != list(questions.cases("another"))
    topics = [case["topic"] for case in drawn]
    assert {topics.count(topic) for topic in topics} == {2}
    assert {case.get("error") for case in drawn} == {None, "ValueError", "ZeroDivisionError"}


def test_the_untrusted_stage_gets_no_answers(
    questions: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(questions, "QUESTIONS", tmp_path / "questions.json")
    monkeypatch.setenv("SEED", "s")
    questions.main()
    solver = AssignmentConfig.model_validate(pipelines.calculator(IMAGES)).student_pipeline[1]

    assert json.loads((tmp_path / "questions.json").read_text()) == [
        each["expression"] for each in questions.cases("s")
    ]
    assert (solver.untrusted, solver.inherit, solver.read) == (True, [], ["questions.json", "submission"])
    assert [path.name for path in image.SOLVER.glob("*.py")] == ["solve.py"]


@pytest.mark.parametrize(
    "source",
    [
        "import os; os._exit(0)",
        "evaluate = 1",
        "def evaluate(text): return True",
        "def evaluate(text): return '1'",
        "def evaluate(text): raise SystemExit(0)",
        "class Int(int): pass\ndef evaluate(text): return Int(1)",
        "def evaluate(text): return 10 ** 5000",
    ],
)
def test_only_right_answers_have_points(source: str, tmp_path: Path, judge: ModuleType) -> None:
    assert solved(tmp_path, source.encode(), ["1"]) == 0

    assert points(judge.report(ONE, judge.answers_in(tmp_path / "answers" / "answers.jsonl"))) == (0, 1)


@pytest.mark.parametrize(
    "content", [b"", b"[1]\n", b"\xff\n", b"{" * 100_000, b'{"value": true}\n', b'{"value": 1.0}\n', b"null\n"]
)
def test_the_judge_trusts_no_answers(content: bytes, tmp_path: Path, judge: ModuleType) -> None:
    file = tmp_path / "answers.jsonl"
    assert judge.answers_in(file) == []
    file.write_bytes(content)

    report = judge.report(ONE, judge.answers_in(file))

    assert points(report) == (0, 1)
    assert report["tests"][0]["output"].startswith("'1': expected 1, got ")
    file.write_bytes(b'{"value": 1}\n' + content)
    assert points(judge.report(ONE, judge.answers_in(file))) == (1, 1)


def test_the_pipelines_and_settings_are_valid() -> None:
    calculator = AssignmentConfig.model_validate(pipelines.calculator(IMAGES))
    assert [stage.has_network for stage in calculator.student_pipeline] == [False, False, False]
    assert AssignmentSettings.model_validate_json(json.dumps(pipelines.calculator_settings())).points == 20
    words = AssignmentConfig.model_validate(pipelines.words("image"))
    assert [stage.kind for stage in words.student_pipeline] == ["gradescope"]
    assert AssignmentSettings.model_validate_json(json.dumps(pipelines.words_settings())).points == 10


@pytest.mark.parametrize("student", WORDS)
def test_the_autograder_gives_the_expected_scores(student: str, tmp_path: Path) -> None:
    ((name, file),) = submissions.files(student, submissions.WORDS)
    (tmp_path / name).write_bytes(file.read_bytes())
    source = (autograder.SOURCE / "run_tests.py").read_text()
    tests = autograder.SOURCE / "tests"
    run = source.replace('"/autograder/results/results.json"', repr(str(tmp_path / "results.json")))
    run = run.replace('discover("tests")', f"discover({str(tests)!r})")
    (tmp_path / "run.py").write_text(run)

    subprocess.run([sys.executable, "-B", "run.py"], cwd=tmp_path, capture_output=True, check=False)

    found = json.loads((tmp_path / "results.json").read_text())
    assert found.get("score", sum(test.get("score", 0) for test in found["tests"])) == WORDS[student].score


def test_the_zip_is_an_autograder_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    autograder.write(first)
    autograder.write(second)

    assert first.read_bytes() == second.read_bytes()
    with tempfile.TemporaryFile() as context:
        assert write_context(first, context) == ""
        context.seek(0)
        with tarfile.open(fileobj=context) as opened:
            names = opened.getnames()
    assert {"run_autograder", "source/setup.sh", "source/tests/test_words.py"} <= set(names)
    assert any(name.startswith("source/vendor/gradescope_utils/") for name in names)


def test_rows_are_compared_with_the_expected_results() -> None:
    rows = [Row(student, each.outcome, each.score) for student, each in EXPECTED.items()]
    assert results.as_expected(rows, EXPECTED) == 30
    wrong = [*rows[1:], Row(rows[0].student, "succeeded", 19, 20, attempts=2)]
    assert results.as_expected(wrong, EXPECTED) == 29
    assert results.as_expected(rows[1:], EXPECTED) == 29
    assert results.table(wrong[1:], EXPECTED).row_count == 30


def test_progress_counts_the_jobs_of_each_phase() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    phase = PhaseView(
        phase="students",
        state="running",
        jobs=5,
        outcomes={"failed": 1, "succeeded": 2},
        queued_at=at,
        started_at=at,
        finished_at=None,
        reason="",
    )
    run = RunDetail.model_construct(phases=[phase])
    assert progress.phases(run) == {"students": progress.Phase(5, 3)}


def test_the_demo_that_is_kept_says_how_to_use_and_to_stop_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: stack.Stack) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stack.Stack, "check", interrupt)
    site: Any = stack.Stack(Path(), "t", {"api": "http://127.0.0.1:7"}, None)  # type: ignore[arg-type]
    program.wait(site)

    said = capsys.readouterr().out
    assert "BROADWAY_SERVER=http://127.0.0.1:7" in said
    assert "Press Ctrl-C here to stop it" in said


@pytest.mark.parametrize(
    ("given", "options"), [((), ""), (("KEEP=1",), "--keep"), (("RUNTIME=docker",), "--runtime docker")]
)
def test_make_passes_the_wishes_on(given: tuple[str, ...], options: str) -> None:
    root = Path(program.__file__).parent.parent
    line = subprocess.check_output(
        ["make", "--no-print-directory", "--dry-run", "demo", *given], cwd=root, text=True
    ).splitlines()[-1]

    assert line.split()[1:] == ["-m", "demo", *options.split()]


@pytest.mark.parametrize("shells", [False, True], ids=["python", "python and shells"])
def test_the_root_file_system_has_a_python_and_its_libraries(*, shells: bool) -> None:
    target = io.BytesIO()
    rootfs.write(target, shells=shells)
    target.seek(0)
    with tarfile.open(fileobj=target) as archive:
        names = set(archive.getnames())
        assert archive.getmember("usr/bin/python3").linkname == str(rootfs.interpreter())
    assert str(rootfs.interpreter()).lstrip("/") in names
    assert f"{os.path.dirname(os.__file__)}/json/decoder.py".lstrip("/") in names  # noqa: PTH120 - a name in an archive
    assert any("libc.so" in name or "ld-musl" in name for name in names)
    assert ({"bin/sh", "usr/bin/env"} <= names) is shells
